import type { GenerateRequest } from '../../protocol/generate.ts';
import type { BlockHasher } from '../../protocol/hashes.ts';
import type { KvFollower } from '../../protocol/kv-follower.ts';
import type { Card } from '../../protocol/messages.ts';
import type { Place } from './choice.ts';
import { KvRank } from './kv-rank.ts';
import { KvTree } from './kv-tree.ts';

/** Most blocks that the hub remembers of one rank. */
const MAX_RANK_BLOCKS = 1 << 20;

/** Leading blocks of one prompt in all prefix caches. */
export interface Match {
  /** Hashes of those that anybody holds, from the first on. */
  readonly known: readonly bigint[];
  /** Ranks that hold any of them, and how many. */
  readonly holders: readonly { readonly place: Place; readonly blocks: number }[];
}

/**
 * The prefix caches of all nodes: one tree for each model fingerprint. Block size and hash algorithm are the hub's, one for
 * all; the cache salt is part of the hashes, so prompts of different salts never meet in a tree.
 */
export class KvIndex {
  readonly #trees = new Map<string, KvTree>();
  readonly #ranks = new Map<string, Map<number, KvRank>>();
  /** By their names in the trees. */
  readonly #places = new Map<number, Place>();
  readonly #followers: KvFollower[] = [];
  #lastHolder = 0;

  constructor(
    private readonly hasher: BlockHasher,
    readonly blockSize: number,
  ) {}

  /** From now on `follower` hears of all changes. Before the first node is there, so that it misses nothing. */
  follow(follower: KvFollower): void {
    this.#followers.push(follower);
  }

  /** A rank of a node begins, empty; what was known of it is forgotten. */
  open(node: string, rank: number, card: Card): KvRank {
    this.#lastHolder += 1;
    const { fingerprint } = card;
    const opened = new KvRank({
      tree: this.#tree(fingerprint),
      holder: this.#lastHolder,
      hasher: this.hasher,
      blockSize: this.blockSize,
      maxBlocks: Math.min(card.totalBlocks, MAX_RANK_BLOCKS),
      changed: (changes) => {
        for (const follower of this.#followers) follower.changed(node, rank, fingerprint, changes);
      },
    });
    const ranks = this.#ranks.get(node) ?? new Map<number, KvRank>();
    this.#close(ranks.get(rank));
    ranks.set(rank, opened);
    this.#ranks.set(node, ranks);
    this.#places.set(opened.holder, { id: node, rank });
    return opened;
  }

  /** The node is gone, or its engine is. */
  close(node: string): void {
    for (const rank of this.#ranks.get(node)?.values() ?? []) this.#close(rank);
    this.#ranks.delete(node);
  }

  /** What the prefix caches have of a prompt. */
  match(fingerprint: string, request: GenerateRequest): Match {
    const known: bigint[] = [];
    const found = this.#tree(fingerprint).match(this.#hashes(request, known));
    const holders: { place: Place; blocks: number }[] = [];
    let longest = 0;
    for (const [holder, blocks] of found) {
      longest = Math.max(longest, blocks);
      const place = this.#places.get(holder);
      if (place !== undefined) holders.push({ place, blocks });
    }
    known.length = longest;
    return { known, holders };
  }

  #close(rank: KvRank | undefined): void {
    if (rank === undefined) return;
    rank.close();
    this.#places.delete(rank.holder);
  }

  /** Chained hashes of all blocks of a prompt that a prefix cache can give, from the first on. */
  hashes(request: GenerateRequest): bigint[] {
    return [...this.#hashes(request, [])];
  }

  /** Hashes of the blocks that a prefix cache can give: whole ones without the prompt's last token, and none with prompt logprobs (G5) or of embeddings (G13). Those that were asked for are added to `asked`. */
  *#hashes(request: GenerateRequest, asked: bigint[]): Generator<bigint> {
    const { prompt, embeds, sampling } = request;
    if (sampling.promptLogprobs !== null || embeds !== undefined) return;
    const size = this.blockSize;
    let parent: bigint | null = null;
    for (let end = size; end < prompt.length; end += size) {
      const tokens = prompt.slice(end - size, end);
      const tokensHash = this.hasher.tokensHash(tokens, request);
      parent = this.hasher.blockHash(parent, { tokens, tokensHash }, request);
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
