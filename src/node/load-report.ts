import type { Clock } from '../protocol/clock.ts';
import type { Link } from './link.ts';
import type { Ranks } from './ranks.ts';

const LOAD_MS = 1000;
/** A change of load is told this much later, together with the changes beside it. */
const LOAD_SOON_MS = 100;

/** Tells the hub the load of each rank, every second and soon after a change (rule L4). */
export class LoadReport {
  private engines: Pick<Ranks, 'loads'> | null = null;
  private stopTimer: () => void = () => {};
  private soonPending = false;

  constructor(
    private readonly link: Pick<Link, 'send' | 'state'>,
    private readonly clock: Clock,
  ) {}

  /** Reports of `engines` from the next `now` on; null ends them. */
  use(engines: Pick<Ranks, 'loads'> | null): void {
    this.engines = engines;
    if (engines === null) this.stopTimer();
  }

  now(): void {
    this.stopTimer();
    if (!this.engines || this.link.state !== 'registered') return;
    for (const load of this.engines.loads()) this.link.send({ type: 'load', load });
    this.stopTimer = this.clock.after(LOAD_MS, () => this.now());
  }

  soon(): void {
    if (this.soonPending) return;
    this.soonPending = true;
    this.clock.after(LOAD_SOON_MS, () => {
      this.soonPending = false;
      this.now();
    });
  }
}
