/** Bytes on one of Dynamo's connections that break its format; the connection is of no use any more. */
export class WireError extends Error {
  override readonly name = 'WireError';
}

/** What the front of some bytes holds: a value, and how many bytes it took. */
export interface Found<T> {
  readonly value: T;
  readonly length: number;
}

/** Reads the front of the bytes; null = more are needed. Throws `WireError`. Never looks at more than the lengths of what is not whole yet. */
export type Read<T> = (bytes: Buffer) => Found<T> | null;

const LEAST_STORE = 4096;

/** Makes values of a stream of bytes, however it was cut. Holds at most twice what came of the value that is not whole yet. */
export class Incoming<T> {
  readonly #read: Read<T>;
  #store: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  constructor(read: Read<T>) {
    this.#read = read;
  }

  /** Bytes of a value that is not whole yet. */
  get pending(): number {
    return this.#end - this.#start;
  }

  /** Takes the next bytes, which are not written to any more; gives all values that are whole now. Throws `WireError`; it is not called again then. */
  push(chunk: Buffer): T[] {
    this.#append(chunk);
    const values: T[] = [];
    while (this.pending > 0) {
      const found = this.#read(this.#store.subarray(this.#start, this.#end));
      if (found === null) break;
      values.push(found.value);
      this.#start += found.length;
    }
    return values;
  }

  /** Bytes before `#end` are with whoever got their values, or yet to be read: they stay as they are. */
  #append(chunk: Buffer): void {
    if (this.pending === 0) {
      this.#store = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#end + chunk.length > this.#store.length) this.#grow(chunk.length);
    chunk.copy(this.#store, this.#end);
    this.#end += chunk.length;
  }

  #grow(more: number): void {
    const { pending } = this;
    const store = Buffer.allocUnsafe(Math.max(LEAST_STORE, 2 * (pending + more)));
    this.#store.copy(store, 0, this.#start, this.#end);
    this.#store = store;
    this.#start = 0;
    this.#end = pending;
  }
}
