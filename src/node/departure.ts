import type { Clock } from '../protocol/clock.ts';

/** Bounds of a departure, milliseconds. */
export interface LeaveTimes {
  /** Requests that were on their way when the node unregistered are taken for so long. */
  readonly graceMs: number;
  /** What has not ended so long after that goes on on another node. */
  readonly timeoutMs: number;
}

/**
 * The end of a node's life in good order (rules D1, D2): it takes what was on its way, until the hub says that no more comes or the grace
 * period is over; then it waits for its last request.
 */
export class Departure {
  /** Resolves when nothing is left to wait for. */
  readonly over: Promise<void>;
  private phase: 'accepting' | 'draining' | 'over' = 'accepting';
  private stopTimer: () => void;
  private resolve: () => void = () => {};

  constructor(
    private readonly clock: Clock,
    private readonly times: LeaveTimes,
    /** Whether a request or a transfer still runs. */
    private readonly busy: () => boolean,
  ) {
    this.over = new Promise((resolve) => {
      this.resolve = resolve;
    });
    this.stopTimer = clock.after(times.graceMs, () => this.closed());
  }

  /** Whether the node takes requests that come now. */
  get accepting(): boolean {
    return this.phase === 'accepting';
  }

  /** No more requests come. */
  closed(): void {
    if (this.phase !== 'accepting') return;
    this.phase = 'draining';
    this.stopTimer();
    this.stopTimer = this.clock.after(this.times.timeoutMs, () => this.cut());
    this.ended();
  }

  /** A request or a transfer came or went. */
  ended(): void {
    if (this.phase === 'draining' && !this.busy()) this.cut();
  }

  /** Whatever still runs is left behind. */
  cut(): void {
    this.phase = 'over';
    this.stopTimer();
    this.resolve();
  }
}
