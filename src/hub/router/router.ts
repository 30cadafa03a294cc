import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest, TokensFrame } from '../../protocol/generate.ts';
import type { Candidate, Choice, Place } from './choice.ts';
import type { CostKnobs } from './cost.ts';
import { kvMode } from './kv.ts';
import type { KvIndex } from './kv-index.ts';
import { leastLoaded } from './least-loaded.ts';
import { LoadTracker, type Placement, promptBlocks, type RankLoad } from './load-tracker.ts';
import type { RouterMode, RouterModeName } from './mode.ts';
import { randomMode } from './random.ts';
import { roundRobin } from './round-robin.ts';

/** How a hub routes unless a request says otherwise. */
export interface RouterConfig {
  readonly mode: RouterModeName;
  readonly knobs: CostKnobs;
}

/** What a request says of its own routing. */
export interface RouteWish {
  /** The node that shall compute it; null = the router chooses. */
  readonly node: string | null;
  /** The data-parallel rank; null = the router chooses. */
  readonly rank: number | null;
  readonly knobs: Partial<CostKnobs>;
  /** It has lost its node: with `direct` too the router chooses the next. */
  readonly moved?: boolean;
}

/** Where a request goes, or why nowhere. */
export type Route<C extends Candidate> =
  | ({ readonly kind: 'chosen'; readonly candidate: C; readonly promptBlocks: number } & Placement)
  /** no candidate / the wished one is none / `direct` and no wish */
  | { readonly kind: 'nobody' | 'absent' | 'unnamed' };

/** A candidate as whoever weighs it by other rules than a mode sees it. */
export interface Option<C extends Candidate> {
  readonly candidate: C;
  readonly load: RankLoad;
  /** Leading blocks of the prompt that are in its prefix cache. */
  readonly overlapBlocks: number;
  readonly known: readonly bigint[];
}

interface Slots {
  readonly generation: number;
  readonly slots: Int32Array;
  readonly numbers: ReadonlyMap<number, number>;
}

export interface RouterOptions {
  readonly config: RouterConfig;
  readonly index: KvIndex;
  readonly clock: Pick<Clock, 'now'>;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** Chooses the node and rank of each request, and keeps count of what each rank has. */
export class Router {
  readonly #options: RouterOptions;
  readonly #loads: LoadTracker;
  readonly #mode: RouterMode;
  /** Of lists of candidates, which are the same one while no node comes or goes. */
  readonly #hardware = new WeakMap<readonly Candidate[], readonly Candidate[]>();
  readonly #kept = new WeakMap<readonly Candidate[], Slots>();

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#loads = new LoadTracker(options.clock, options.index.blockSize);
    this.#mode = modeOf(options.config.mode, options.random);
  }

  /** candidates: ready nodes of one model that can hold the request. */
  choose<C extends Candidate>(request: GenerateRequest, candidates: readonly C[], wish: RouteWish): Route<C> {
    const named =
      wish.node === null && wish.rank === null
        ? this.#preferHardware(candidates)
        : candidates.filter((candidate) => wished(candidate, wish));
    const first = named[0];
    if (first === undefined) return { kind: named === candidates || candidates.length === 0 ? 'nobody' : 'absent' };
    const { config } = this.#options;
    if (wish.node === null && config.mode === 'direct' && wish.moved !== true) return { kind: 'unnamed' };
    const { known, choice } = this.#look(named, request);
    const chosen = named.length === 1 ? 0 : this.#mode.choose(choice, { ...config.knobs, ...wish.knobs });
    const candidate = named[chosen] ?? first;
    const overlapBlocks = choice.overlapBlocks[chosen] ?? 0;
    return { kind: 'chosen', candidate, overlapBlocks, known, promptBlocks: choice.newBlocks };
  }

  /** What is known of each candidate for a prompt: its load, and what it has of it. */
  options<C extends Candidate>(request: GenerateRequest, candidates: readonly C[]): Option<C>[] {
    if (candidates.length === 0) return [];
    const { known, choice } = this.#look(candidates, request);
    return candidates.map((candidate, i) => {
      const overlapBlocks = choice.overlapBlocks[i] ?? 0;
      return { candidate, load: this.#loads.of(candidate), overlapBlocks, known };
    });
  }

  #look(candidates: readonly Candidate[], request: GenerateRequest): { known: readonly bigint[]; choice: Choice } {
    const { index } = this.#options;
    const { slots, numbers } = this.#slots(candidates);
    const overlapBlocks = new Int32Array(slots.length);
    const sharedBlocks = new Int32Array(slots.length);
    const { known, holders } = index.match(candidates[0]?.card.fingerprint ?? '', request);
    const write = (column: Int32Array, slot: number | undefined, blocks: number) => {
      const i = slot === undefined ? undefined : numbers.get(slot);
      if (i !== undefined) column[i] = blocks;
    };
    for (const { place, blocks } of holders) write(overlapBlocks, this.#loads.slotIfAny(place), blocks);
    for (const { slot, blocks } of this.#loads.shared(known)) write(sharedBlocks, slot, blocks);
    const newBlocks = promptBlocks(request.prompt.length, index.blockSize);
    const loads = this.#loads.table();
    return { known, choice: { candidates, loads, slots, overlapBlocks, sharedBlocks, newBlocks } };
  }

  /** Where the loads of candidates stand, and whose each slot is; kept while the list lives. */
  #slots(candidates: readonly Candidate[]): Slots {
    const kept = this.#kept.get(candidates);
    if (kept?.generation === this.#loads.generation) return kept;
    const slots = Int32Array.from(candidates, (candidate) => this.#loads.slotOf(candidate));
    const numbers = new Map<number, number>();
    for (const [i, slot] of slots.entries()) numbers.set(slot, i);
    const made = { generation: this.#loads.generation, slots, numbers };
    this.#kept.set(candidates, made);
    return made;
  }

  /** Software adapters serve only while no hardware node of the model is ready. */
  #preferHardware<C extends Candidate>(candidates: readonly C[]): readonly C[] {
    let hardware = this.#hardware.get(candidates);
    if (hardware === undefined) {
      const found = candidates.filter(({ card }) => !card.adapter.software);
      hardware = found.length === 0 || found.length === candidates.length ? candidates : found;
      this.#hardware.set(candidates, hardware);
    }
    return hardware as readonly C[];
  }

  /** The request now is the rank's, by the route that `choose` gave. */
  added(place: Place, request: GenerateRequest, placement: Placement): void {
    this.#loads.added(place, request, placement);
  }

  /** Tokens of a request came from its rank. */
  tokens(place: Place, frame: TokensFrame): void {
    this.#loads.tokens(place, frame);
  }

  /** A rank has computed a prompt for another node. */
  prefilled(place: Place, request: string, cachedTokens: number): void {
    this.#loads.prefilled(place, request, cachedTokens);
  }

  /** The request left the rank: finished, failed or cancelled. */
  freed(place: Place, request: GenerateRequest): void {
    this.#loads.freed(place, request.request);
  }

  /** The node computes nothing any more of what it was given. */
  forget(node: string): void {
    this.#loads.forget(node);
  }

  load(place: Place): RankLoad {
    return this.#loads.of(place);
  }

  /** Sequences on all ranks of a node. */
  sequences(node: string): number {
    return this.#loads.sequences(node);
  }
}

function wished({ id, rank }: Candidate, wish: RouteWish): boolean {
  return (wish.node === null || id === wish.node) && (wish.rank === null || rank === wish.rank);
}

function modeOf(name: RouterModeName, random: () => number): RouterMode {
  switch (name) {
    case 'kv':
      return kvMode(random);
    case 'round-robin':
      return roundRobin;
    case 'random':
      return randomMode(random);
    case 'least-loaded':
    // Who calls names the node; only where that one is lost the router chooses.
    case 'direct':
      return leastLoaded;
  }
}
