import { type HashScope, sameScope, scopeOf } from '../../protocol/hash-scope.ts';
import type { BlockHasher } from '../../protocol/hashes.ts';
import type { KvEvent, KvSnapshotPart, StoredBlock } from '../../protocol/kv-events.ts';
import type { KvChange } from '../../protocol/kv-follower.ts';
import { KvLedger } from './kv-ledger.ts';
import type { KvTree } from './kv-tree.ts';

/** What the hub does next: nothing, ask for a snapshot, or close the node, which broke a rule. */
export type KvVerdict =
  | { readonly kind: 'taken' | 'snapshot needed' }
  | { readonly kind: 'broken'; readonly reason: string };

export interface KvRankOptions {
  readonly tree: KvTree;
  /** Name of this rank in the tree. */
  readonly holder: number;
  readonly hasher: BlockHasher;
  readonly blockSize: number;
  /** Blocks in the rank's pool: it can store no more. */
  readonly maxBlocks: number;
  /** Hears of each change that was taken. */
  readonly changed?: (changes: readonly KvChange[]) => void;
}

const TAKEN: KvVerdict = { kind: 'taken' };
const SNAPSHOT_NEEDED: KvVerdict = { kind: 'snapshot needed' };
const broken = (reason: string): KvVerdict => ({ kind: 'broken', reason });

/** A snapshot of which not all parts are there. */
interface Collection {
  readonly lastEventId: number;
  readonly parts: number;
  next: number;
  readonly hashes: Set<bigint>;
}

/** The prefix cache of one rank of a node, as its events tell it: ordered, checked, and written to the tree (K rules). */
export class KvRank {
  readonly ledger = new KvLedger();
  readonly #options: KvRankOptions;
  #collection: Collection | null = null;
  /** Something was told as stored since it was last told as cleared. */
  #told = false;

  constructor(options: KvRankOptions) {
    this.#options = options;
  }

  get holder(): number {
    return this.#options.holder;
  }

  /** Events of one message. After a verdict other than `taken` the rest is not looked at. */
  append(events: readonly KvEvent[]): KvVerdict {
    // A node sends the parts of a snapshot one after the other: what stands between them shows that the rest was lost.
    if (this.#collection !== null) return this.#lost();
    const taken: KvEvent[] = [];
    const verdict = this.#append(events, taken);
    this.#tell(taken);
    return verdict === SNAPSHOT_NEEDED ? this.#lost() : verdict;
  }

  #append(events: readonly KvEvent[], taken: KvEvent[]): KvVerdict {
    for (const event of events) {
      const order = this.ledger.next(event.eventId);
      if (order === 'waiting') return TAKEN;
      if (order === 'gap') return SNAPSHOT_NEEDED;
      if (order === 'known') continue;
      const wrong = this.#apply(event);
      if (wrong !== null) return broken(`KV event ${event.eventId}: ${wrong}`);
      taken.push(event);
    }
    return TAKEN;
  }

  /** One part of a snapshot; the last one replaces all that was known. Where parts are missing the last one leads to asking anew. */
  part({ lastEventId, part, parts, blocks }: KvSnapshotPart): KvVerdict {
    if (part === 0) {
      this.#collection = { lastEventId, parts, next: 0, hashes: new Set() };
      this.#tellCleared();
    }
    const into = this.#collection;
    if (into === null || into.next !== part || into.parts !== parts || into.lastEventId !== lastEventId) {
      this.#collection = null;
      return part === parts - 1 ? this.#lost() : TAKEN;
    }
    into.next += 1;
    for (const { parent, block, ...scope } of blocks) {
      const wrong = this.#wrong(parent, scope, block, into.hashes);
      if (wrong !== null) return broken(`KV snapshot as of ${lastEventId}: ${wrong}`);
      into.hashes.add(block.blockHash);
    }
    this.#tell(runs(blocks));
    if (into.next === parts) this.#replace(into);
    return TAKEN;
  }

  /** The rank is gone, and its blocks with it. */
  close(): void {
    this.#collection = null;
    this.#options.tree.drop(this.holder);
    this.#tellCleared();
  }

  #tell(changes: readonly KvChange[]): void {
    if (changes.length === 0) return;
    this.#told ||= changes.some(({ type }) => type === 'stored');
    this.#options.changed?.(changes);
  }

  #tellCleared(): void {
    if (this.#told) this.#options.changed?.([{ type: 'cleared' }]);
    this.#told = false;
  }

  #lost(): KvVerdict {
    this.close();
    this.ledger.lost();
    return SNAPSHOT_NEEDED;
  }

  #replace({ lastEventId, hashes }: Collection): void {
    const { tree } = this.#options;
    this.#collection = null;
    tree.drop(this.holder);
    for (const hash of hashes) tree.add(this.holder, hash);
    this.ledger.replaced(lastEventId);
  }

  /** Writes an event to the tree; returns what is wrong with it, or null. */
  #apply(event: KvEvent): string | null {
    const { tree } = this.#options;
    switch (event.type) {
      case 'stored': {
        let { parent } = event;
        const held = { has: (hash: bigint) => tree.has(this.holder, hash), size: 0 };
        for (const block of event.blocks) {
          held.size = tree.count(this.holder);
          const wrong = this.#wrong(parent, event, block, held);
          if (wrong !== null) return wrong;
          tree.add(this.holder, block.blockHash);
          parent = block.blockHash;
        }
        return null;
      }
      case 'removed': {
        const unknown = event.blockHashes.find((hash) => !tree.remove(this.holder, hash));
        return unknown === undefined ? null : `block ${unknown} is removed, but is not stored`;
      }
      case 'cleared':
        tree.drop(this.holder);
        return null;
    }
  }

  #wrong(
    parent: bigint | null,
    scope: HashScope,
    { blockHash, tokensHash, tokens }: StoredBlock,
    held: Pick<ReadonlySet<bigint>, 'has' | 'size'>,
  ): string | null {
    const { hasher, blockSize, maxBlocks } = this.#options;
    if (tokens.length !== blockSize) return `a block of ${tokens.length} tokens, not ${blockSize}`;
    if (parent !== null && !held.has(parent)) return `block ${blockHash} comes before its parent ${parent}`;
    if (held.has(blockHash)) return `block ${blockHash} is stored twice`;
    if (held.size >= maxBlocks) return `more blocks than the ${maxBlocks} of the pool`;
    const wanted = hasher.tokensHash(tokens, scope);
    if (tokensHash !== wanted) return `tokensHash is ${tokensHash}, but these tokens have ${wanted}`;
    const chained = hasher.blockHash(parent, { tokens, tokensHash }, scope);
    return blockHash === chained ? null : `blockHash is ${blockHash}, but these tokens and parent have ${chained}`;
  }
}

/** The blocks of a snapshot as `stored` changes: those that follow each other are one. */
function runs(blocks: KvSnapshotPart['blocks']): KvChange[] {
  const found: Extract<KvChange, { type: 'stored' }>[] = [];
  for (const { parent, block, ...scope } of blocks) {
    const last = found.at(-1);
    if (last !== undefined && parent === last.blocks.at(-1)?.blockHash && sameScope(scope, last))
      last.blocks.push(block);
    else found.push({ type: 'stored', parent, ...scopeOf(scope), blocks: [block] });
  }
  return found;
}
