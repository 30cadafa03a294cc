import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest, TokensFrame } from '../../protocol/generate.ts';
import { Rate } from './rate.ts';

/** What the hub has on a node now, by its own count: ahead of anything that the node reports, so that a burst does not herd. */
export interface NodeLoad {
  readonly sequences: number;
  /** Blocks of prompts without their first token, less those that its prefix cache gives. */
  readonly prefillBlocks: number;
  /** Blocks of all its requests' prompts, as far as it is known those that they share once (Dynamo's count of active blocks). */
  readonly decodeBlocks: number;
  /** Prompt blocks computed per millisecond; null = not measured. */
  readonly prefillRate: number | null;
  /** Tokens of one sequence per millisecond; null = not measured. */
  readonly decodeRate: number | null;
  /** Grows with each request given to any node; 0 = never had one. */
  readonly lastChosen: number;
}

/** What the router knew of a prompt when it chose. */
export interface Placement {
  readonly overlapBlocks: number;
  readonly known: readonly bigint[];
  /** Another node computes the prompt: it counts as prefill there (Dynamo's `track_prefill_tokens: false`). */
  readonly remotePrefill?: boolean;
}

interface Running {
  readonly sequences: number;
  readonly blocks: number;
  /** Hashes of the leading ones that were in anybody's prefix cache. */
  readonly known: readonly bigint[];
  /** Own prompt blocks to compute. */
  readonly prefill: number;
  /** All prompt blocks that the node had to compute until this prompt was done, as of its start. */
  readonly ahead: number;
  readonly addedAt: number;
  readonly remotePrefill: boolean;
  /** null until the first token. */
  firstAt: number | null;
  lastAt: number;
  tokens: number;
}

class Node {
  readonly running = new Map<string, Running>();
  readonly prefillRate = new Rate();
  readonly decodeRate = new Rate();
  sequences = 0;
  /** How many running requests have a block whose hash is known. */
  readonly active = new Map<bigint, number>();
  prefillBlocks = 0;
  /** Blocks whose hash is not known. */
  otherBlocks = 0;
  lastChosen = 0;
}

/** Load and measured rates of each node: a request is added, its prefill is done with its first token, and it is freed. */
export class LoadTracker {
  readonly #nodes = new Map<string, Node>();
  #added = 0;

  constructor(
    private readonly clock: Pick<Clock, 'now'>,
    private readonly blockSize: number,
  ) {}

  /** The request now is the node's, which has `overlapBlocks` leading blocks of its prompt. `known`: hashes of those that anybody has. */
  added(
    id: string,
    { request, prompt, choices }: GenerateRequest,
    { overlapBlocks, known, remotePrefill = false }: Placement,
  ): void {
    const node = this.#nodes.get(id) ?? new Node();
    this.#nodes.set(id, node);
    this.#added += 1;
    node.lastChosen = this.#added;
    const blocks = promptBlocks(prompt.length, this.blockSize);
    const prefill = remotePrefill ? 0 : Math.max(0, blocks - overlapBlocks);
    const now = this.clock.now();
    node.sequences += choices.length;
    node.prefillBlocks += prefill;
    node.otherBlocks += blocks - known.length;
    for (const hash of known) node.active.set(hash, (node.active.get(hash) ?? 0) + 1);
    node.running.set(request, {
      sequences: choices.length,
      blocks,
      known,
      prefill,
      ahead: node.prefillBlocks,
      addedAt: now,
      remotePrefill,
      firstAt: null,
      lastAt: now,
      tokens: 0,
    });
  }

  /** Tokens came. The first ones end the prefill and measure it. */
  tokens(id: string, { request, tokens, cachedTokens }: TokensFrame): void {
    const node = this.#nodes.get(id);
    const running = node?.running.get(request);
    if (node === undefined || running === undefined || tokens.length === 0) return;
    const now = this.clock.now();
    if (running.firstAt === null) this.#prefilled(node, running, cachedTokens ?? 0, now);
    else running.tokens += tokens.length;
    running.lastAt = now;
  }

  /** The prompt is computed, without any token of an answer. Unknown requests are ignored. */
  prefilled(id: string, request: string, cachedTokens: number): void {
    const node = this.#nodes.get(id);
    const running = node?.running.get(request);
    if (node === undefined || running === undefined || running.firstAt !== null) return;
    this.#prefilled(node, running, cachedTokens, this.clock.now());
  }

  #prefilled(node: Node, running: Running, cachedTokens: number, now: number): void {
    running.firstAt = now;
    node.prefillBlocks -= running.prefill;
    // Time that another node took says nothing of this one.
    if (running.remotePrefill) return;
    const cached = Math.floor(cachedTokens / this.blockSize);
    const computed = running.ahead - running.prefill + Math.max(0, running.blocks - cached);
    node.prefillRate.sample(computed, now - running.addedAt, now);
  }

  /** The request left the node: finished, failed or cancelled. Unknown ones are ignored. */
  freed(id: string, request: string): void {
    const node = this.#nodes.get(id);
    const running = node?.running.get(request);
    if (node === undefined || running === undefined) return;
    node.running.delete(request);
    node.sequences -= running.sequences;
    node.otherBlocks -= running.blocks - running.known.length;
    for (const hash of running.known) {
      const left = (node.active.get(hash) ?? 0) - 1;
      if (left > 0) node.active.set(hash, left);
      else node.active.delete(hash);
    }
    if (running.firstAt === null) node.prefillBlocks -= running.prefill;
    else node.decodeRate.sample(running.tokens / running.sequences, running.lastAt - running.firstAt, this.clock.now());
  }

  /** The node left. */
  forget(id: string): void {
    this.#nodes.delete(id);
  }

  /** How many of the leading blocks `known` running requests of the node have already. */
  shared(id: string, known: readonly bigint[]): number {
    const active = this.#nodes.get(id)?.active;
    if (active === undefined || active.size === 0) return 0;
    // Whoever has a block has all before it, so half of what is left can be skipped each time.
    let [low, high] = [0, known.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (active.has(known[middle] as bigint)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** now: the clock's, read once where many are asked for. */
  of(id: string, now = this.clock.now()): NodeLoad {
    const node = this.#nodes.get(id);
    if (node === undefined) return UNUSED;
    const { sequences, prefillBlocks, lastChosen } = node;
    const decodeBlocks = node.otherBlocks + node.active.size;
    const prefillRate = node.prefillRate.at(now);
    return { sequences, prefillBlocks, decodeBlocks, lastChosen, prefillRate, decodeRate: node.decodeRate.at(now) };
  }
}

const UNUSED: NodeLoad = {
  sequences: 0,
  prefillBlocks: 0,
  decodeBlocks: 0,
  prefillRate: null,
  decodeRate: null,
  lastChosen: 0,
};

/** Blocks that hold a prompt, the last one perhaps in part. */
export function promptBlocks(tokens: number, blockSize: number): number {
  return Math.ceil(tokens / blockSize);
}
