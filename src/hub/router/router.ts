import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest, TokensFrame } from '../../protocol/generate.ts';
import type { CostKnobs } from './cost.ts';
import { kvMode } from './kv.ts';
import type { KvIndex } from './kv-index.ts';
import { leastLoaded } from './least-loaded.ts';
import { LoadTracker, type NodeLoad, type Placement, promptBlocks } from './load-tracker.ts';
import type { Candidate, Option, RouterMode, RouterModeName } from './mode.ts';
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
  readonly knobs: Partial<CostKnobs>;
  /** It has lost its node: with `direct` too the router chooses the next. */
  readonly moved?: boolean;
}

/** Where a request goes, or why nowhere. */
export type Route<C extends Candidate> =
  | ({ readonly kind: 'chosen'; readonly candidate: C; readonly promptBlocks: number } & Placement)
  /** no candidate / the wished one is none / `direct` and no wish */
  | { readonly kind: 'nobody' | 'absent' | 'unnamed' };

export interface RouterOptions {
  readonly config: RouterConfig;
  readonly index: KvIndex;
  readonly clock: Pick<Clock, 'now'>;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** Chooses the node of each request, and keeps count of what each node has. */
export class Router {
  readonly #options: RouterOptions;
  readonly #loads: LoadTracker;
  readonly #mode: RouterMode;
  /** Of lists of candidates, which are the same one while no node comes or goes. */
  readonly #hardware = new WeakMap<readonly Candidate[], readonly Candidate[]>();

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#loads = new LoadTracker(options.clock, options.index.blockSize);
    this.#mode = modeOf(options.config.mode, options.random);
  }

  /** candidates: ready nodes of one model that can hold the request. */
  choose<C extends Candidate>(request: GenerateRequest, candidates: readonly C[], wish: RouteWish): Route<C> {
    const named =
      wish.node === null ? this.#preferHardware(candidates) : candidates.filter(({ id }) => id === wish.node);
    const first = named[0];
    if (first === undefined) return { kind: wish.node === null ? 'nobody' : 'absent' };
    const { index, config } = this.#options;
    if (wish.node === null && config.mode === 'direct' && wish.moved !== true) return { kind: 'unnamed' };
    const { known, option } = this.#match(first, request);
    const blocks = promptBlocks(request.prompt.length, index.blockSize);
    const options: [Option<C>, ...Option<C>[]] = [option(first)];
    for (let i = 1; i < named.length; i++) options.push(option(named[i]!));
    const { candidate, overlapBlocks } =
      named.length === 1 ? options[0] : this.#mode.choose(options, blocks, { ...config.knobs, ...wish.knobs });
    return { kind: 'chosen', candidate, overlapBlocks, known, promptBlocks: blocks };
  }

  /** What is known of each candidate for a prompt: its load, and what it has of it. */
  options<C extends Candidate>(
    request: GenerateRequest,
    candidates: readonly C[],
  ): (Option<C> & Pick<Placement, 'known'>)[] {
    const [first] = candidates;
    if (first === undefined) return [];
    const { known, option } = this.#match(first, request);
    return candidates.map((candidate) => ({ ...option(candidate), known }));
  }

  #match<C extends Candidate>({ card }: C, request: GenerateRequest) {
    const { known, overlap } = this.#options.index.match(card.fingerprint, request);
    const now = this.#options.clock.now();
    const option = (candidate: C): Option<C> => ({
      candidate,
      load: this.#loads.of(candidate.id, now),
      overlapBlocks: overlap(candidate.id, candidate.card.dpRank),
      sharedBlocks: known.length === 0 ? 0 : this.#loads.shared(candidate.id, known),
    });
    return { known, option };
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

  /** The request now is the node's, by the route that `choose` gave. */
  added(node: string, request: GenerateRequest, placement: Placement): void {
    this.#loads.added(node, request, placement);
  }

  /** Tokens of a request came from its node. */
  tokens(node: string, frame: TokensFrame): void {
    this.#loads.tokens(node, frame);
  }

  /** A node has computed a prompt for another one. */
  prefilled(node: string, request: string, cachedTokens: number): void {
    this.#loads.prefilled(node, request, cachedTokens);
  }

  /** The request left the node: finished, failed or cancelled. */
  freed(node: string, request: GenerateRequest): void {
    this.#loads.freed(node, request.request);
  }

  /** The node computes nothing any more of what it was given. */
  forget(node: string): void {
    this.#loads.forget(node);
  }

  load(node: string): NodeLoad {
    return this.#loads.of(node);
  }
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
