import type { Clock } from '../protocol/clock.ts';

/** Lets `perSecond` units a second through, and up to two seconds' worth at once. */
export class TokenBucket {
  #level: number;
  #at: number;

  constructor(
    private readonly perSecond: number,
    private readonly clock: Clock,
  ) {
    this.#level = 2 * perSecond;
    this.#at = clock.now();
  }

  /** Whether `units` more are within the bound; they count either way. */
  take(units: number): boolean {
    const now = this.clock.now();
    this.#level = Math.min(2 * this.perSecond, this.#level + ((now - this.#at) / 1000) * this.perSecond) - units;
    this.#at = now;
    return this.#level >= 0;
  }
}
