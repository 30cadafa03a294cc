import type { Clock } from '../protocol/clock.ts';

export interface HeartbeatOptions {
  readonly clock: Clock;
  /** Between two pings. */
  readonly ms: number;
  ping(nonce: number): void;
  /** Called once, when as many pings in a row had no answer. */
  dead(unanswered: number): void;
}

const MAX_MISSED = 2;

/** Pings a node and notices when it stops answering (docs/protocol.md, L rules). */
export class Heartbeat {
  #nonce = 0;
  #unanswered = 0;
  #stopTimer: () => void = () => {};

  constructor(private readonly options: HeartbeatOptions) {}

  start(): void {
    const { clock, ms, ping, dead } = this.options;
    this.#stopTimer = clock.after(ms, () => {
      if (this.#unanswered >= MAX_MISSED) return dead(this.#unanswered);
      this.#nonce += 1;
      this.#unanswered += 1;
      this.start();
      return ping(this.#nonce);
    });
  }

  stop(): void {
    this.#stopTimer();
  }

  /** Nonces count from 1, so an answer tells how many newer pings are still on their way. */
  answered(nonce: number): void {
    if (nonce <= this.#nonce) this.#unanswered = Math.min(this.#unanswered, this.#nonce - nonce);
  }
}
