import type { Clock } from '../protocol/clock.ts';

/** Bounds of a hub's end, seconds. */
export interface CloseTimes {
  /** Requests that come late are taken for so long; `/health` says no more from the beginning. */
  readonly graceSeconds: number;
  /** After it, streams that run may go on for so long. */
  readonly drainSeconds: number;
}

/** What a hub does on its way to the end, in this order; each is called once. */
export interface ClosingSteps {
  /** Tells everybody that the hub will end. */
  announce(times: CloseTimes): void;
  /** Takes no more requests; resolves when the last one has ended. */
  drain(): Promise<void>;
  /** Ends what still runs, and all else. */
  end(): Promise<void>;
}

/** The end of a hub in good order: late arrivals, then the last streams, then everything. */
export class Closing {
  #closed: Promise<void> | null = null;
  /** When a phase must be over at the latest, by the shortest times that anybody gave. */
  readonly #ends = { grace: Number.POSITIVE_INFINITY, drain: Number.POSITIVE_INFINITY };
  /** Sets the timer of the current phase anew. */
  #rearm = () => {};

  constructor(
    private readonly clock: Clock,
    private readonly steps: ClosingSteps,
  ) {}

  get begun(): boolean {
    return this.#closed !== null;
  }

  /** A later call waits for the first; one with shorter times shortens it. */
  close(times: CloseTimes): Promise<void> {
    const grace = this.clock.now() + times.graceSeconds * 1000;
    this.#ends.grace = Math.min(this.#ends.grace, grace);
    this.#ends.drain = Math.min(this.#ends.drain, grace + times.drainSeconds * 1000);
    this.#rearm();
    this.#closed ??= this.#run(times);
    return this.#closed;
  }

  async #run(times: CloseTimes): Promise<void> {
    this.steps.announce(times);
    await this.#bounded('grace', new Promise(() => {}));
    await this.#bounded('drain', this.steps.drain());
    await this.steps.end();
  }

  /** Waits for `done`, and for the end of the phase at most, which a later call may bring nearer. */
  #bounded(phase: 'grace' | 'drain', done: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      let stop = () => {};
      const over = (): void => {
        stop();
        this.#rearm = () => {};
        resolve();
      };
      this.#rearm = () => {
        stop();
        const left = this.#ends[phase] - this.clock.now();
        if (left > 0) stop = this.clock.after(left, this.#rearm);
        else over();
      };
      void done.then(over);
      this.#rearm();
    });
  }
}
