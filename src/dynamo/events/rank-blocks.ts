import type { KvChange } from '../../protocol/kv-follower.ts';

interface Held {
  readonly parent: bigint | null;
  readonly tokensHash: bigint;
}

/** What is in the prefix cache of one rank: what a router that knows nothing of it has to be told. */
export class RankBlocks {
  /** By block hash; a parent stands before its children, since it is stored before them (rule K4). */
  readonly #held = new Map<bigint, Held>();

  get size(): number {
    return this.#held.size;
  }

  apply(changes: readonly KvChange[]): void {
    for (const change of changes) this.#apply(change);
  }

  /** One `stored` for each block, parents first. */
  dump(): KvChange[] {
    return [...this.#held].map(([blockHash, { parent, tokensHash }]) => ({
      type: 'stored',
      parent,
      blocks: [{ blockHash, tokensHash, tokens: [] }],
    }));
  }

  #apply(change: KvChange): void {
    switch (change.type) {
      case 'stored': {
        let { parent } = change;
        for (const { blockHash, tokensHash } of change.blocks) {
          this.#held.set(blockHash, { parent, tokensHash });
          parent = blockHash;
        }
        return;
      }
      case 'removed':
        for (const hash of change.blockHashes) this.#held.delete(hash);
        return;
      case 'cleared':
        this.#held.clear();
    }
  }
}
