import type { BlockHasher } from '../../src/protocol/hashes.ts';
import type { KvEvent, KvSnapshot, StoredBlock } from '../../src/protocol/kv-events.ts';

interface Entry {
  readonly block: StoredBlock;
  readonly parent: bigint | null;
  readonly cacheSalt: string | undefined;
}

/** The prefix cache of a scripted node: what it stores and evicts it tells as events, as an engine does (K rules). */
export class PrefixCache {
  readonly #entries = new Map<bigint, Entry>();
  #events: KvEvent[] = [];
  #lastEventId = 0;

  /** capacity: blocks; the least recently used one that is no parent goes first. */
  constructor(
    private readonly hasher: BlockHasher,
    readonly blockSize: number,
    private readonly capacity = Number.POSITIVE_INFINITY,
  ) {}

  get size(): number {
    return this.#entries.size;
  }

  /** A prompt is computed: returns how many of its tokens were cached, and stores its full blocks. */
  compute(tokens: readonly number[], cacheSalt?: string): number {
    const blocks = this.#blocksOf(tokens, cacheSalt);
    const last = Math.floor((tokens.length - 1) / this.blockSize);
    const miss = blocks.findIndex(({ block }) => !this.#entries.has(block.blockHash));
    const hits = miss < 0 ? blocks.length : miss;
    // Tail first, so that a parent is always younger than its children.
    for (const entry of blocks.slice(0, hits).reverse()) this.#touch(entry);
    this.#store(blocks.slice(hits));
    return Math.min(hits, last) * this.blockSize;
  }

  /** Evicts the oldest block that has no child. */
  evict(): void {
    const parents = new Set([...this.#entries.values()].map(({ parent }) => parent));
    const oldest = [...this.#entries.keys()].find((hash) => !parents.has(hash));
    if (oldest === undefined) return;
    this.#entries.delete(oldest);
    this.#tell({ type: 'removed', eventId: 0, blockHashes: [oldest] });
  }

  clear(): void {
    this.#entries.clear();
    this.#tell({ type: 'cleared', eventId: 0 });
  }

  /** Events since the last call. */
  takeEvents(): KvEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  snapshot(): KvSnapshot {
    const depth = (entry: Entry): number =>
      entry.parent === null ? 0 : 1 + depth(this.#entries.get(entry.parent) as Entry);
    const entries = [...this.#entries.values()].sort((a, b) => depth(a) - depth(b));
    const blocks = entries.map(({ parent, cacheSalt, block }) => ({ parent, ...salted(cacheSalt), block }));
    return { lastEventId: this.#lastEventId, blocks };
  }

  /** Leading blocks of a prompt that a lookup could use: the naive model that a router is held against. */
  leading(tokens: readonly number[], cacheSalt?: string): number {
    const usable = this.#blocksOf(tokens.slice(0, -1), cacheSalt);
    const miss = usable.findIndex(({ block }) => !this.#entries.has(block.blockHash));
    return miss < 0 ? usable.length : miss;
  }

  #store(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    for (const entry of entries) this.#entries.set(entry.block.blockHash, entry);
    const blocks = entries.map(({ block }) => block);
    this.#tell({ type: 'stored', eventId: 0, parent: first.parent, ...salted(first.cacheSalt), blocks });
    for (const entry of [...entries].reverse()) this.#touch(entry);
    while (this.#entries.size > this.capacity) this.evict();
  }

  #touch(entry: Entry): void {
    this.#entries.delete(entry.block.blockHash);
    this.#entries.set(entry.block.blockHash, entry);
  }

  #tell(event: KvEvent): void {
    this.#lastEventId += 1;
    this.#events.push({ ...event, eventId: this.#lastEventId });
  }

  #blocksOf(tokens: readonly number[], cacheSalt: string | undefined): Entry[] {
    const entries: Entry[] = [];
    for (let end = this.blockSize; end <= tokens.length; end += this.blockSize) {
      const own = tokens.slice(end - this.blockSize, end);
      const parent = entries.at(-1)?.block.blockHash ?? null;
      const tokensHash = this.hasher.tokensHash(own, { cacheSalt });
      const blockHash = this.hasher.blockHash(parent, { tokensHash, tokens: own }, { cacheSalt });
      entries.push({ parent, cacheSalt, block: { blockHash, tokensHash, tokens: own } });
    }
    return entries;
  }
}

function salted(cacheSalt: string | undefined): { cacheSalt?: string } {
  return cacheSalt === undefined ? {} : { cacheSalt };
}
