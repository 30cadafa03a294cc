/** A folder of files that outlives the page. All methods reject with the browser's own errors. */
export interface StoreFolder {
  /** Bytes of a file; null when there is none. */
  size(name: string): Promise<number | null>;
  read(name: string): Promise<ReadableStream<Uint8Array>>;
  /** Opens a file to write on behind its first `keep` bytes; what lies there is cut off. One writer a file. */
  append(name: string, keep: number): Promise<StoreWriter>;
  /** Nothing where there is no such file. */
  remove(name: string): Promise<void>;
  names(): Promise<string[]>;
}

export interface StoreWriter {
  /** Writes all of the bytes, or throws. */
  write(bytes: Uint8Array): void;
  /** May be called more than once. */
  close(): void;
}

export type LockMode = 'shared' | 'exclusive';

/** Locks that all pages of the origin share. A release may be called more than once. */
export interface StoreLocks {
  /** Null when the lock is not to be had at once. */
  tryAcquire(name: string, mode: LockMode): Promise<(() => void) | null>;
  acquire(name: string, mode: LockMode): Promise<() => void>;
}

/** Where a page keeps model files between visits. */
export interface ModelStore {
  readonly folder: StoreFolder;
  readonly locks: StoreLocks;
  /** Bytes that the browser still lets this origin keep; null when it does not say. */
  free(): Promise<number | null>;
}
