import type { GenerateRequest } from '../../protocol/generate.ts';
import type { BlockHasher } from '../../protocol/hashes.ts';
import type { Card } from '../../protocol/messages.ts';
import type { KvFollower } from './kv-follower.ts';
import { KvRank } from './kv-rank.ts';
import { KvTree } from './kv-tree.ts';

/** Most blocks that the hub remembers of one rank. */
const MAX_RANK_BLOCKS = 1 << 20;

/** Leading blocks of one prompt in all prefix caches. */
export interface Match {
  /** Hashes of those that anybody holds, from the first on. */
  readonly known: readonly bigint[];
  /** How many of them a (node, rank) holds. */
  overlap(node: string, rank: number): number;
}

/**
 * The prefix caches of all nodes: one tree for each model fingerprint. Block size and hash algorithm are the hub's, one for
 * all; the cache salt is part of the hashes, so prompts of different salts never meet in a tree.
 */
export class KvIndex {
  readonly #trees = new Map<string, KvTree>();
  readonly #holders = new Map<string, Map<number, KvRank>>();
  #lastHolder = 0;

  constructor(
    private readonly hasher: BlockHasher,
    readonly blockSize: number,
    private readonly follower: KvFollower | null = null,
  ) {}

  /** A rank of a node begins, empty; what was known of it is forgotten. */
  open(node: string, rank: number, card: Card): KvRank {
    this.#lastHolder += 1;
    const { follower } = this;
    const { fingerprint } = card;
    const opened = new KvRank({
      tree: this.#tree(fingerprint),
      holder: this.#lastHolder,
      hasher: this.hasher,
      blockSize: this.blockSize,
      maxBlocks: Math.min(card.totalBlocks, MAX_RANK_BLOCKS),
      ...(follower && { changed: (changes) => follower.changed(node, rank, fingerprint, changes) }),
    });
    const ranks = this.#holders.get(node) ?? new Map<number, KvRank>();
    ranks.get(rank)?.close();
    ranks.set(rank, opened);
    this.#holders.set(node, ranks);
    return opened;
  }

  /** The node is gone, or its engine is. */
  close(node: string): void {
    for (const rank of this.#holders.get(node)?.values() ?? []) rank.close();
    this.#holders.delete(node);
  }

  /** What the prefix caches have of a prompt. */
  match(fingerprint: string, request: GenerateRequest): Match {
    const known: bigint[] = [];
    const found = this.#tree(fingerprint).match(this.#hashes(request, known));
    let longest = 0;
    for (const depth of found.values()) longest = Math.max(longest, depth);
    known.length = longest;
    return {
      known,
      overlap: (node, rank) => {
        const holder = longest === 0 ? undefined : this.#holders.get(node)?.get(rank)?.holder;
        return holder === undefined ? 0 : (found.get(holder) ?? 0);
      },
    };
  }

  /** Chained hashes of all blocks of a prompt that a prefix cache can give, from the first on. */
  hashes(request: GenerateRequest): bigint[] {
    return [...this.#hashes(request, [])];
  }

  /** Hashes of the blocks that a prefix cache can give: whole ones without the prompt's last token, and none with prompt logprobs (G5). Those that were asked for are added to `asked`. */
  *#hashes({ prompt, cacheSalt, sampling }: GenerateRequest, asked: bigint[]): Generator<bigint> {
    if (sampling.promptLogprobs !== null) return;
    const size = this.blockSize;
    let parent: bigint | null = null;
    for (let end = size; end < prompt.length; end += size) {
      const tokens = prompt.slice(end - size, end);
      const tokensHash = this.hasher.tokensHash(tokens, cacheSalt);
      parent = this.hasher.blockHash(parent, { tokens, tokensHash }, cacheSalt);
      asked.push(parent);
      yield parent;
    }
  }

  #tree(fingerprint: string): KvTree {
    let tree = this.#trees.get(fingerprint);
    if (tree === undefined) {
      tree = new KvTree();
      this.#trees.set(fingerprint, tree);
    }
    return tree;
  }
}
