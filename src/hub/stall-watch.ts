import type { Clock } from '../protocol/clock.ts';
import type { HubLimits } from './config.ts';

/** Pauses of its usual length that make a stall. */
const USUAL_PAUSES = 20;
/** Weight of the newest pause in the usual one. */
const NEWEST = 0.2;

export interface StallWatchOptions {
  readonly clock: Clock;
  readonly limits: Pick<HubLimits, 'stallMs' | 'firstTokenStallMs' | 'requestIdleMs'>;
  /** Steps that the node says to have computed: one that works on other sequences, or on a long prompt, does not hang. */
  readonly steps: () => number;
  /** The node hangs as far as can be seen. Called again after each further pause of that length. */
  readonly stalled: () => void;
  /** No token came for `requestIdleMs`; the watch has ended. */
  readonly idle: () => void;
}

/** Watches one attempt for a node that hangs: no token for a time that follows the attempt's own rate. */
export class StallWatch {
  readonly #options: StallWatchOptions;
  readonly #began: number;
  #lastToken: number | null = null;
  #usualPause = 0;
  #steps: number;
  #cancel: () => void = () => {};

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.#began = options.clock.now();
    this.#steps = options.steps();
    this.#arm();
  }

  /** New tokens came. */
  token(): void {
    const now = this.#options.clock.now();
    if (this.#lastToken !== null) {
      const pause = now - this.#lastToken;
      this.#usualPause = this.#usualPause === 0 ? pause : this.#usualPause + NEWEST * (pause - this.#usualPause);
    }
    this.#lastToken = now;
    this.#arm();
  }

  stop(): void {
    this.#cancel();
  }

  #arm(): void {
    const { clock, limits } = this.#options;
    this.#cancel();
    const silent = clock.now() - (this.#lastToken ?? this.#began);
    const left = limits.requestIdleMs - silent;
    this.#cancel = clock.after(Math.max(0, Math.min(this.#stallMs(), left)), () => this.#look());
  }

  #stallMs(): number {
    const { stallMs, firstTokenStallMs } = this.#options.limits;
    return this.#lastToken === null ? firstTokenStallMs : Math.max(stallMs, USUAL_PAUSES * this.#usualPause);
  }

  #look(): void {
    const { clock, limits, steps, stalled, idle } = this.#options;
    if (clock.now() - (this.#lastToken ?? this.#began) >= limits.requestIdleMs) {
      idle();
      return;
    }
    const before = this.#steps;
    this.#steps = steps();
    // Armed first: `stalled` may stop the watch.
    this.#arm();
    if (this.#steps === before) stalled();
  }
}
