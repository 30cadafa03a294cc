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
  /** When to look, and the moment that the timer is set for: never later. */
  #due = 0;
  #timerAt = Number.POSITIVE_INFINITY;
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
    this.#arm(now);
  }

  stop(): void {
    this.#cancel();
  }

  /** A timer for each token would cost more than the rest of it: one that was set for an earlier moment looks, and is set again. */
  #arm(now = this.#options.clock.now()): void {
    const { limits } = this.#options;
    const left = limits.requestIdleMs - (now - (this.#lastToken ?? this.#began));
    this.#due = now + Math.max(0, Math.min(this.#stallMs(), left));
    if (this.#due < this.#timerAt) this.#setTimer(now);
  }

  #setTimer(now: number): void {
    const { clock } = this.#options;
    this.#cancel();
    this.#timerAt = this.#due;
    this.#cancel = clock.after(this.#due - now, () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      const then = clock.now();
      if (then < this.#due) this.#setTimer(then);
      else this.#look();
    });
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
