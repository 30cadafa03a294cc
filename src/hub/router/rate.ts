/** What older samples still weigh when a new one comes. */
const KEPT = 0.8;
/** A measurement so old says nothing any more: a node that was slow then may be fast now, and gets its chance. */
const STALE_MS = 300_000;

/** Work per millisecond, over the last few samples; larger samples weigh more. */
export class Rate {
  #work = 0;
  #ms = 0;
  /** When the last sample came. */
  #at = Number.NEGATIVE_INFINITY;

  /** Samples without work or time are no measurement. */
  sample(work: number, ms: number, now: number): void {
    if (!(work > 0 && ms > 0)) return;
    this.#work = this.#work * KEPT + work;
    this.#ms = this.#ms * KEPT + ms;
    this.#at = now;
  }

  /** null while nothing is known. */
  at(now: number): number | null {
    return this.#ms === 0 || now - this.#at > STALE_MS ? null : this.#work / this.#ms;
  }
}
