import type { Clock } from '../protocol/clock.ts';
import type { Ranks } from './ranks.ts';
import { IDLE, type NodeSnapshot } from './snapshot.ts';

/** At most ten snapshots a second, however often things change. */
const MIN_GAP_MS = 100;
/** How often load and block map of a running engine are read. */
const POLL_MS = 250;

/** The newest snapshot of a node, and its way to the page. */
export class SnapshotFeed {
  private snapshot: NodeSnapshot = IDLE;
  private engines: Ranks | null = null;
  private pending = false;
  private stopPoll: () => void = () => {};

  constructor(
    private readonly clock: Clock,
    private readonly emit: (snapshot: NodeSnapshot) => void,
  ) {}

  get current(): NodeSnapshot {
    return this.snapshot;
  }

  update(patch: Partial<NodeSnapshot>): void {
    this.snapshot = { ...this.snapshot, ...patch };
    if (this.pending) return;
    this.pending = true;
    this.clock.after(MIN_GAP_MS, () => {
      this.pending = false;
      this.emit(this.snapshot);
    });
  }

  /** Follows the loads and the block maps of `engines` until it is told null. */
  follow(engines: Ranks | null): void {
    this.stopPoll();
    this.engines = engines;
    if (engines) this.poll();
    else this.update({ loads: null, blockMaps: null });
  }

  private poll(): void {
    const { engines } = this;
    if (!engines) return;
    this.update({ loads: engines.loads(), blockMaps: engines.engines.map((engine) => engine.blockMap()) });
    this.stopPoll = this.clock.after(POLL_MS, () => this.poll());
  }
}
