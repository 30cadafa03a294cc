import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest, TokensFrame } from '../../protocol/generate.ts';
import type { Place } from './choice.ts';
import { LoadTable } from './load-table.ts';
import { Rate } from './rate.ts';

/** What the hub has on a rank now, by its own count: ahead of anything that the node reports, so that a burst does not herd. */
export interface RankLoad {
  readonly sequences: number;
  /** Blocks of prompts without their first token, less those that its prefix cache gives. */
  readonly prefillBlocks: number;
  /** Blocks of all its requests' prompts, as far as it is known those that they share once (Dynamo's count of active blocks). */
  readonly decodeBlocks: number;
  /** Prompt blocks computed per millisecond; null = not measured. */
  readonly prefillRate: number | null;
  /** Tokens of one sequence per millisecond; null = not measured. */
  readonly decodeRate: number | null;
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
  /** All prompt blocks that the rank had to compute until this prompt was done, as of its start. */
  readonly ahead: number;
  readonly addedAt: number;
  readonly remotePrefill: boolean;
  /** null until the first token. */
  firstAt: number | null;
  lastAt: number;
  tokens: number;
}

class Tracked {
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

  constructor(readonly slot: number) {}

  get decodeBlocks(): number {
    return this.otherBlocks + this.active.size;
  }
}

/** How often the table is rid of rates that are too old. */
const SWEEP_MS = 10_000;

/** Load and measured rates of each rank: a request is added, its prefill is done with its first token, and it is freed. */
export class LoadTracker {
  readonly #table = new LoadTable();
  #sweptAt = Number.NEGATIVE_INFINITY;
  /** Changes when slots of the table change hands. */
  generation = 0;
  /** Of each node, by rank. */
  readonly #nodes = new Map<string, Map<number, Tracked>>();
  /** Ranks with running requests whose prompts begin with a block. */
  readonly #holders = new Map<bigint, Set<Tracked>>();
  #added = 0;

  constructor(
    private readonly clock: Pick<Clock, 'now'>,
    private readonly blockSize: number,
  ) {}

  /** The request now is the rank's, which has `overlapBlocks` leading blocks of its prompt. `known`: hashes of those that anybody has. */
  added(
    place: Place,
    { request, prompt, choices }: GenerateRequest,
    { overlapBlocks, known, remotePrefill = false }: Placement,
  ): void {
    const rank = this.#take(place);
    this.#added += 1;
    rank.lastChosen = this.#added;
    const blocks = promptBlocks(prompt.length, this.blockSize);
    const prefill = remotePrefill ? 0 : Math.max(0, blocks - overlapBlocks);
    const now = this.clock.now();
    rank.sequences += choices.length;
    rank.prefillBlocks += prefill;
    rank.otherBlocks += blocks - known.length;
    for (const hash of known) rank.active.set(hash, (rank.active.get(hash) ?? 0) + 1);
    if (known[0] !== undefined) this.#holdersOf(known[0]).add(rank);
    rank.running.set(request, {
      sequences: choices.length,
      blocks,
      known,
      prefill,
      ahead: rank.prefillBlocks,
      addedAt: now,
      remotePrefill,
      firstAt: null,
      lastAt: now,
      tokens: 0,
    });
    this.#write(rank);
  }

  /** Tokens came. The first ones end the prefill and measure it. */
  tokens(place: Place, { request, tokens, cachedTokens }: TokensFrame): void {
    const rank = this.#find(place);
    const running = rank?.running.get(request);
    if (rank === undefined || running === undefined || tokens.length === 0) return;
    const now = this.clock.now();
    if (running.firstAt === null) this.#prefilled(rank, running, cachedTokens ?? 0, now);
    else running.tokens += tokens.length;
    running.lastAt = now;
  }

  /** The prompt is computed, without any token of an answer. Unknown requests are ignored. */
  prefilled(place: Place, request: string, cachedTokens: number): void {
    const rank = this.#find(place);
    const running = rank?.running.get(request);
    if (rank === undefined || running === undefined || running.firstAt !== null) return;
    this.#prefilled(rank, running, cachedTokens, this.clock.now());
  }

  #prefilled(rank: Tracked, running: Running, cachedTokens: number, now: number): void {
    running.firstAt = now;
    rank.prefillBlocks -= running.prefill;
    // Time that another node took says nothing of this one.
    if (!running.remotePrefill) {
      const cached = Math.floor(cachedTokens / this.blockSize);
      const computed = running.ahead - running.prefill + Math.max(0, running.blocks - cached);
      rank.prefillRate.sample(computed, now - running.addedAt, now);
    }
    this.#write(rank);
  }

  /** The request left the rank: finished, failed or cancelled. Unknown ones are ignored. */
  freed(place: Place, request: string): void {
    const rank = this.#find(place);
    const running = rank?.running.get(request);
    if (rank === undefined || running === undefined) return;
    rank.running.delete(request);
    rank.sequences -= running.sequences;
    rank.otherBlocks -= running.blocks - running.known.length;
    for (const hash of running.known) {
      const left = (rank.active.get(hash) ?? 0) - 1;
      if (left > 0) rank.active.set(hash, left);
      else rank.active.delete(hash);
    }
    const [first] = running.known;
    if (first !== undefined && !rank.active.has(first)) this.#noLongerHolds(rank, first);
    if (running.firstAt === null) rank.prefillBlocks -= running.prefill;
    else rank.decodeRate.sample(running.tokens / running.sequences, running.lastAt - running.firstAt, this.clock.now());
    this.#write(rank);
  }

  /** The node left. */
  forget(id: string): void {
    const ranks = this.#nodes.get(id);
    if (ranks === undefined) return;
    this.#nodes.delete(id);
    this.generation += 1;
    for (const rank of ranks.values()) {
      for (const { known } of rank.running.values()) if (known[0] !== undefined) this.#noLongerHolds(rank, known[0]);
      this.#table.release(rank.slot);
    }
  }

  /** Slots of the ranks whose running requests have leading blocks of `known`, and how many. */
  *shared(known: readonly bigint[]): Generator<{ slot: number; blocks: number }> {
    const [first] = known;
    if (first === undefined) return;
    for (const { slot, active } of this.#holders.get(first) ?? []) {
      // Whoever has a block has all before it, so half of what is left can be skipped each time.
      let [low, high] = [1, known.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (active.has(known[middle]!)) low = middle + 1;
        else high = middle;
      }
      yield { slot, blocks: low };
    }
  }

  /** The figures of all ranks, for choices. */
  table(): LoadTable {
    const now = this.clock.now();
    if (now - this.#sweptAt >= SWEEP_MS) {
      this.#sweptAt = now;
      for (const ranks of this.#nodes.values()) for (const rank of ranks.values()) this.#write(rank);
    }
    return this.#table;
  }

  /** Where the table tells of the rank; one that had nothing yet gets a slot. */
  slotOf(place: Place): number {
    return this.#take(place).slot;
  }

  /** The same of a rank that need not be a candidate. */
  slotIfAny(place: Place): number | undefined {
    return this.#find(place)?.slot;
  }

  of(place: Place): RankLoad {
    const rank = this.#find(place);
    if (rank === undefined) return UNUSED;
    const { sequences, prefillBlocks, decodeBlocks } = rank;
    const now = this.clock.now();
    return {
      ...{ sequences, prefillBlocks, decodeBlocks },
      prefillRate: rank.prefillRate.at(now),
      decodeRate: rank.decodeRate.at(now),
    };
  }

  /** Of all ranks of a node. */
  sequences(id: string): number {
    let sequences = 0;
    for (const rank of this.#nodes.get(id)?.values() ?? []) sequences += rank.sequences;
    return sequences;
  }

  #find({ id, rank }: Place): Tracked | undefined {
    return this.#nodes.get(id)?.get(rank);
  }

  #take(place: Place): Tracked {
    const known = this.#find(place);
    if (known !== undefined) return known;
    const taken = new Tracked(this.#table.take());
    const ranks = this.#nodes.get(place.id);
    if (ranks === undefined) this.#nodes.set(place.id, new Map([[place.rank, taken]]));
    else ranks.set(place.rank, taken);
    return taken;
  }

  #holdersOf(hash: bigint): Set<Tracked> {
    const known = this.#holders.get(hash);
    if (known !== undefined) return known;
    const holders = new Set<Tracked>();
    this.#holders.set(hash, holders);
    return holders;
  }

  #noLongerHolds(rank: Tracked, hash: bigint): void {
    const holders = this.#holders.get(hash);
    holders?.delete(rank);
    if (holders?.size === 0) this.#holders.delete(hash);
  }

  #write({ slot, sequences, prefillBlocks, decodeBlocks, prefillRate, decodeRate, lastChosen }: Tracked): void {
    const table = this.#table;
    const now = this.clock.now();
    table.sequences[slot] = sequences;
    table.prefillBlocks[slot] = prefillBlocks;
    table.decodeBlocks[slot] = decodeBlocks;
    table.prefillMs[slot] = 1 / (prefillRate.at(now) ?? Number.POSITIVE_INFINITY);
    table.decodeMs[slot] = 1 / (decodeRate.at(now) ?? Number.POSITIVE_INFINITY);
    table.lastChosen[slot] = lastChosen;
  }
}

const UNUSED: RankLoad = { sequences: 0, prefillBlocks: 0, decodeBlocks: 0, prefillRate: null, decodeRate: null };

/** Blocks that hold a prompt, the last one perhaps in part. */
export function promptBlocks(tokens: number, blockSize: number): number {
  return Math.ceil(tokens / blockSize);
}
