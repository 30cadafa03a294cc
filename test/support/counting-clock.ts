import { type Clock, systemClock } from '../../src/protocol/clock.ts';

/** The system's clock, which knows how many timers are set. */
export class CountingClock implements Clock {
  pending = 0;

  readonly now = systemClock.now;

  readonly after = (ms: number, task: () => void): (() => void) => {
    let open = true;
    const close = () => {
      if (open) this.pending -= 1;
      open = false;
    };
    this.pending += 1;
    const cancel = systemClock.after(ms, () => {
      close();
      task();
    });
    return () => {
      close();
      cancel();
    };
  };
}
