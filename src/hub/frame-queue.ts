interface Reader<T> {
  readonly resolve: (result: IteratorResult<T, void>) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Values from a producer that must not wait to one consumer that may. The producer bounds how much it puts in. An iterator of its own, no
 * generator: each of those costs several turns of the microtask queue for every token.
 */
export class FrameQueue<T> implements AsyncIterableIterator<T, void> {
  #items: T[] = [];
  /** Items before it were read. */
  #read = 0;
  #ended = false;
  #error: unknown = null;
  #reader: Reader<T> | null = null;

  push(value: T): void {
    if (this.#ended) return;
    if (this.#reader === null) this.#items.push(value);
    else this.#wake().resolve({ done: false, value });
  }

  /** No more will come; what is in the queue is still read. */
  end(): void {
    this.#ended = true;
    if (this.#reader !== null) this.#settle(this.#wake());
  }

  /** Ends with an error; what is in the queue is still read before. */
  fail(error: unknown): void {
    if (this.#ended) return;
    this.#error = error;
    this.end();
  }

  /** Asked again only once the answer is there. */
  next(): Promise<IteratorResult<T, void>> {
    if (this.#read < this.#items.length) return Promise.resolve({ done: false, value: this.#take() });
    return new Promise((resolve, reject) => {
      if (this.#ended) this.#settle({ resolve, reject });
      else this.#reader = { resolve, reject };
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #take(): T {
    const value = this.#items[this.#read] as T;
    this.#read += 1;
    if (this.#read === this.#items.length) {
      this.#items = [];
      this.#read = 0;
    }
    return value;
  }

  #wake(): Reader<T> {
    const reader = this.#reader as Reader<T>;
    this.#reader = null;
    return reader;
  }

  #settle({ resolve, reject }: Reader<T>): void {
    const error = this.#error;
    this.#error = null;
    if (error === null) resolve({ done: true, value: undefined });
    else reject(error);
  }
}
