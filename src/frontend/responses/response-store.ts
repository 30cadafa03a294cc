import type { Item } from './items.ts';
import type { EndedResponse } from './response-shape.ts';

/** A response that is kept. */
export interface StoredResponse {
  readonly response: EndedResponse;
  /** All of its conversation: what came before, its input, its output. */
  readonly items: readonly Item[];
}

export interface StoreBounds {
  /** Responses at most. */
  readonly most: number;
  /** Bytes at most of all their conversations as JSON. */
  readonly mostBytes: number;
}

/** What a server keeps unless it is told otherwise. */
export const STORE_BOUNDS: StoreBounds = { most: 1024, mostBytes: 64 << 20 };

interface Entry extends StoredResponse {
  readonly owner: string | null;
  readonly bytes: number;
}

/** Responses by id, each for the key that made it; those that nobody asked for longest go first. */
export class ResponseStore {
  readonly #bounds: StoreBounds;
  /** Least lately used first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(bounds: StoreBounds) {
    this.#bounds = bounds;
  }

  /** Keeps a response of `owner`'s; one that is larger than everything may be is not kept. */
  put(owner: string | null, stored: StoredResponse): void {
    const { most, mostBytes } = this.#bounds;
    // Conversations share what came before, so that they take less than this.
    const bytes = 2 * (JSON.stringify(stored.response).length + JSON.stringify(stored.items).length);
    if (bytes > mostBytes) return;
    this.#entries.set(stored.response.id, { ...stored, owner, bytes });
    this.#bytes += bytes;
    for (const [id, entry] of this.#entries) {
      if (this.#entries.size <= most && this.#bytes <= mostBytes) return;
      this.#drop(id, entry);
    }
  }

  /** null where `owner` has none of this id. */
  get(id: string, owner: string | null): StoredResponse | null {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.owner !== owner) return null;
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    return entry;
  }

  /** False where `owner` has none of this id. */
  delete(id: string, owner: string | null): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.owner !== owner) return false;
    this.#drop(id, entry);
    return true;
  }

  #drop(id: string, entry: Entry): void {
    this.#entries.delete(id);
    this.#bytes -= entry.bytes;
  }
}
