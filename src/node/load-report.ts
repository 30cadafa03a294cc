import type { Engine } from '../engine/api.ts';
import type { Clock } from '../protocol/clock.ts';
import type { Link } from './link.ts';

const LOAD_MS = 1000;
/** A change of load is told this much later, together with the changes beside it. */
const LOAD_SOON_MS = 100;

/** Tells the hub the engine's load, every second and soon after a change (rule L4). */
export class LoadReport {
  private engine: Pick<Engine, 'load'> | null = null;
  private stopTimer: () => void = () => {};
  private soonPending = false;

  constructor(
    private readonly link: Pick<Link, 'send' | 'state'>,
    private readonly clock: Clock,
  ) {}

  /** Reports of `engine` from the next `now` on; null ends them. */
  use(engine: Pick<Engine, 'load'> | null): void {
    this.engine = engine;
    if (engine === null) this.stopTimer();
  }

  now(): void {
    this.stopTimer();
    if (!this.engine || this.link.state !== 'registered') return;
    this.link.send({ type: 'load', load: this.engine.load() });
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
