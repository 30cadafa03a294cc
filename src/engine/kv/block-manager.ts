import { type HashScope, sameScope, scopeOf } from '../../protocol/hash-scope.ts';
import type { BlockHasher } from '../../protocol/hashes.ts';
import { type KvEvent, type KvSnapshot, MAX_EVENT_BLOCKS, type StoredBlock } from '../../protocol/kv-events.ts';
import type { Sequence } from '../sequence.ts';
import { FreeList } from './free-list.ts';

/** A full block that the prefix cache can serve. */
interface CachedBlock extends StoredBlock, HashScope {
  readonly parent: CachedBlock | null;
}

export interface BlockManagerOptions {
  readonly prefixCaching: boolean;
  /** The free blocks in the order they are first handed out: a permutation of all ids. Default: ascending. */
  readonly order?: Uint32Array;
}

/**
 * Who owns which block of the KV pool, and the prefix cache over full blocks. Pure bookkeeping, O(1) per block.
 *
 * - A cached block keeps its hash after it is freed, until it is handed out again: least recently freed first.
 *   Freed blocks that are not cached go first.
 * - A block is cached only while its predecessor is, as an object, so that a hit at block i proves, token by token,
 *   the whole prefix: two prefixes whose hashes collide cannot take each other's blocks.
 * - A sequence that fills a block whose twin is cached moves to the twin. So all sequences that hold a cached block
 *   hold its cached parent too, and tail-first freeing makes children go before parents.
 */
export class BlockManager {
  readonly totalBlocks: number;
  readonly blockSize: number;
  readonly #hasher: BlockHasher;
  readonly #caching: boolean;
  readonly #free: FreeList;
  readonly #references: Uint32Array;
  readonly #cached: (CachedBlock | undefined)[];
  // Insertion order is parents first: a parent is stored before its child and leaves after it.
  readonly #byHash = new Map<bigint, number>();
  #events: KvEvent[] = [];
  #lastEventId = 0;

  /** blockSize: tokens per block, 1 to 1024. */
  constructor(
    totalBlocks: number,
    blockSize: number,
    hasher: BlockHasher,
    { prefixCaching, order }: BlockManagerOptions,
  ) {
    if (blockSize < 1 || blockSize > 1024) throw new RangeError(`block size ${blockSize} is not within 1 to 1024`);
    this.totalBlocks = totalBlocks;
    this.blockSize = blockSize;
    this.#hasher = hasher;
    this.#caching = prefixCaching;
    this.#free = new FreeList(totalBlocks, order ?? Array(totalBlocks).keys());
    if (this.#free.size !== totalBlocks)
      throw new RangeError(`order names ${this.#free.size} of ${totalBlocks} blocks`);
    this.#references = new Uint32Array(totalBlocks);
    this.#cached = Array(totalBlocks).fill(undefined);
  }

  /** Blocks that can be handed out, cached ones included. */
  get freeBlocks(): number {
    return this.#free.size;
  }

  get usedBlocks(): number {
    return this.totalBlocks - this.#free.size;
  }

  get cachedBlocks(): number {
    return this.#byHash.size;
  }

  /** How many blocks the sequence lacks to hold its first `positions` positions. */
  missing(sequence: Sequence, positions: number): number {
    return Math.max(0, Math.ceil(positions / this.blockSize) - sequence.blocks.length);
  }

  /** Gives the sequence blocks for its first `positions` positions. False, and nothing changed, when too few are free. */
  grow(sequence: Sequence, positions: number): boolean {
    const missing = this.missing(sequence, positions);
    if (missing > this.#free.size) return false;
    const evicted: bigint[] = [];
    for (let i = 0; i < missing; i++) {
      const block = this.#free.popFront();
      const cached = this.#cached[block];
      if (cached) {
        evicted.push(cached.blockHash);
        this.#byHash.delete(cached.blockHash);
        this.#cached[block] = undefined;
      }
      this.#references[block] = 1;
      sequence.stale.push(sequence.blocks.length);
      sequence.blocks.push(block);
    }
    if (evicted.length > 0) this.#events.push({ type: 'removed', eventId: ++this.#lastEventId, blockHashes: evicted });
    return true;
  }

  /** Takes back blocks that are not needed for the first `positions` positions. */
  shrink(sequence: Sequence, positions: number): void {
    const needed = Math.ceil(positions / this.blockSize);
    while (sequence.blocks.length > needed) this.#release(sequence.blocks.pop()!);
  }

  /** The longest cached prefix of the sequence, in whole blocks. Its last known token is never part of it. */
  match(sequence: Sequence): number[] {
    const hits: number[] = [];
    if (!this.#caching || !sequence.caches) return hits;
    this.#hash(sequence);
    if (!sequence.readsCache) return hits;
    const most = Math.floor((sequence.tokens.length - 1) / this.blockSize);
    for (let index = 0; index < most; index++) {
      const block = this.#byHash.get(sequence.hashes[index]!.blockHash);
      const parent = index === 0 ? null : this.#cached[hits[index - 1]!]!;
      if (block === undefined || !this.#holds(block, sequence, index, parent)) break;
      hits.push(block);
    }
    return hits;
  }

  /**
   * Starts a sequence that holds no blocks: takes the hits of `match` and blocks for the first `positions` positions.
   * False, and nothing changed, when too few are free.
   */
  admit(sequence: Sequence, hits: readonly number[], positions: number): boolean {
    const fresh = this.missing(sequence, positions) - hits.length;
    const revived = hits.filter((block) => this.#references[block] === 0).length;
    if (fresh + revived > this.#free.size) return false;
    for (const block of hits) {
      sequence.stale.push(sequence.blocks.length);
      sequence.blocks.push(block);
      this.#acquire(block);
    }
    sequence.registered = hits.length;
    return this.grow(sequence, positions);
  }

  /** Offers the sequence's full blocks up to `computed` to the cache: their tokens are known, their K and V written. */
  register(sequence: Sequence): void {
    if (!this.#caching || !sequence.caches) return;
    const full = Math.floor(sequence.computed / this.blockSize);
    if (sequence.registered >= full) return;
    this.#hash(sequence);
    let run: CachedBlock[] = [];
    for (; sequence.registered < full; sequence.registered++) {
      const index = sequence.registered;
      const block = sequence.blocks[index]!;
      const parent = index === 0 ? null : this.#cached[sequence.blocks[index - 1]!];
      if (parent === undefined) continue;
      const hashes = sequence.hashes[index]!;
      const twin = this.#byHash.get(hashes.blockHash);
      if (twin === undefined) {
        const tokens = sequence.tokens.slice(index * this.blockSize, (index + 1) * this.blockSize);
        const entry = { ...hashes, tokens, parent, ...scopeOf(sequence) };
        this.#byHash.set(hashes.blockHash, block);
        this.#cached[block] = entry;
        run.push(entry);
      } else if (this.#holds(twin, sequence, index, parent)) {
        this.#stored(run);
        run = [];
        this.#acquire(twin);
        this.#release(block);
        sequence.blocks[index] = twin;
        sequence.stale.push(index);
      }
    }
    this.#stored(run);
  }

  /** Takes all blocks from the sequence, tail first. */
  free(sequence: Sequence): void {
    for (let i = sequence.blocks.length - 1; i >= 0; i--) this.#release(sequence.blocks[i]!);
    sequence.blocks = [];
    sequence.stale = [];
  }

  /** Forgets the whole prefix cache. Running sequences keep their blocks; those they fill later stay uncached. */
  clear(): void {
    if (!this.#caching) return;
    this.#byHash.clear();
    this.#cached.fill(undefined);
    this.#events.push({ type: 'cleared', eventId: ++this.#lastEventId });
  }

  /** Forgets what was computed with a LoRA adapter that is gone: another one may get its name. */
  forgetLora(name: string): void {
    // Children first: what is stored later goes earlier.
    const gone = [...this.#byHash].filter(([, block]) => this.#cached[block]!.loraName === name).reverse();
    for (const [hash, block] of gone) {
      this.#byHash.delete(hash);
      this.#cached[block] = undefined;
    }
    for (let at = 0; at < gone.length; at += MAX_EVENT_BLOCKS) {
      const blockHashes = gone.slice(at, at + MAX_EVENT_BLOCKS).map(([hash]) => hash);
      this.#events.push({ type: 'removed', eventId: ++this.#lastEventId, blockHashes });
    }
  }

  /** The events since the last call, oldest first. */
  takeEvents(): KvEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** The prefix cache as of the last event, taken or not. */
  snapshot(): KvSnapshot {
    const blocks = [...this.#byHash.values()].map((id) => {
      const entry = this.#cached[id]!;
      return { parent: entry.parent?.blockHash ?? null, ...scopeOf(entry), block: plain(entry) };
    });
    return { lastEventId: this.#lastEventId, blocks };
  }

  /** One byte per block: 0 free, 1 free but cached, 2 in use, 3 in use and shared. */
  blockMap(): Uint8Array {
    return Uint8Array.from(this.#references, (references, block) => {
      if (references === 0) return this.#cached[block] ? 1 : 0;
      return references === 1 ? 2 : 3;
    });
  }

  #acquire(block: number): void {
    if (this.#references[block] === 0) this.#free.remove(block);
    this.#references[block]! += 1;
  }

  #release(block: number): void {
    if (this.#references[block] === 0) throw new Error(`block ${block} is released more often than it was taken`);
    this.#references[block]! -= 1;
    if (this.#references[block]! > 0) return;
    if (this.#cached[block]) this.#free.pushBack(block);
    else this.#free.pushFront(block);
  }

  #holds(block: number, sequence: Sequence, index: number, parent: CachedBlock | null): boolean {
    const entry = this.#cached[block]!;
    if (entry.parent !== parent || !sameScope(entry, sequence)) return false;
    return entry.tokens.every((token, i) => token === sequence.tokens[index * this.blockSize + i]);
  }

  #hash(sequence: Sequence): void {
    const { hashes, tokens } = sequence;
    for (let end = (hashes.length + 1) * this.blockSize; end <= tokens.length; end += this.blockSize) {
      const own = tokens.slice(end - this.blockSize, end);
      const tokensHash = this.#hasher.tokensHash(own, sequence);
      const parent = hashes.at(-1)?.blockHash ?? null;
      hashes.push({ tokensHash, blockHash: this.#hasher.blockHash(parent, { tokensHash, tokens: own }, sequence) });
    }
  }

  #stored(run: readonly CachedBlock[]): void {
    const first = run[0];
    if (!first) return;
    const parent = first.parent?.blockHash ?? null;
    const eventId = ++this.#lastEventId;
    this.#events.push({ type: 'stored', eventId, parent, ...scopeOf(first), blocks: run.map(plain) });
  }
}

function plain({ blockHash, tokensHash, tokens }: CachedBlock): StoredBlock {
  return { blockHash, tokensHash, tokens };
}
