/** What waits to be given to something that takes one at a time; bounded by number and by bytes. */
export interface SendQueueOptions<T> {
  readonly send: (item: T) => Promise<void>;
  readonly bytes: (item: T) => number;
  readonly maxItems: number;
  readonly maxBytes: number;
  /** Told of each item that found no room, and is not sent. first: none was left out before it. */
  readonly leftOut: (first: boolean) => void;
  /** Told that sending failed; what waited then is not sent. */
  readonly failed: (error: unknown) => void;
}

/** A bounded queue before one sender. */
export class SendQueue<T> {
  #waiting: T[] = [];
  #bytes = 0;
  #sending: Promise<void> | null = null;
  #anyLeftOut = false;

  constructor(private readonly options: SendQueueOptions<T>) {}

  add(item: T): void {
    const { maxItems, maxBytes, leftOut } = this.options;
    const bytes = this.#bytes + this.options.bytes(item);
    if (this.#waiting.length >= maxItems || bytes > maxBytes) {
      leftOut(!this.#anyLeftOut);
      this.#anyLeftOut = true;
      return;
    }
    this.#waiting.push(item);
    this.#bytes = bytes;
    this.#sending ??= this.#send();
  }

  /** Resolves when all was sent. Never rejects. */
  async drained(): Promise<void> {
    await this.#sending;
  }

  async #send(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const items = this.#waiting;
        this.#waiting = [];
        this.#bytes = 0;
        for (const item of items) await this.options.send(item);
      }
    } catch (error) {
      this.options.failed(error);
    } finally {
      this.#sending = null;
    }
  }
}
