import { bytes, duration, percent } from '../../protocol/quantities.ts';

const LINE_MS = 5000;
/** Where a hundredth of the model takes longer than `LINE_MS`, a line for each hundredth, and one in this time. */
const LONGEST_MS = 60_000;

/** Says how a download gets on, a line at a time. */
export class DownloadProgress {
  private saidAt: number;
  private saidBytes: number;

  /** here: bytes of the `total` that are on disk already. now: milliseconds. */
  constructor(
    private readonly name: string,
    private here: number,
    private readonly total: number,
    private readonly say: (line: string) => void,
    private readonly now: () => number,
  ) {
    this.saidAt = now();
    this.saidBytes = here;
  }

  add(count: number): void {
    this.here += count;
    const gained = this.here - this.saidBytes;
    const ms = this.now() - this.saidAt;
    if (ms < LINE_MS || (gained < this.total / 100 && ms < LONGEST_MS)) return;
    const rate = (gained * 1000) / ms;
    const left = rate > 0 ? `, ${duration((this.total - this.here) / rate)} left` : '';
    this.say(
      `${this.name}: ${bytes(this.here)} of ${bytes(this.total)} (${percent(this.here, this.total)}), ${bytes(rate)}/s${left}`,
    );
    this.saidAt += ms;
    this.saidBytes = this.here;
  }
}
