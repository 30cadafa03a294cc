import type { Clock } from '../protocol/clock.ts';

export interface HeartbeatOptions {
  readonly clock: Clock;
  /** Between two pings. */
  readonly ms: number;
  ping(nonce: number): void;
  /** Bytes that wait for the node. While they become fewer it reads: pings may lie behind a long message. */
  unread(): number;
  /** Called once, when as many pings in a row had no answer, and the node does not read either. */
  dead(unanswered: number): void;
}

const MAX_MISSED = 2;

/** Pings a node and notices when it stops answering (docs/protocol.md, L rules). */
export class Heartbeat {
  #nonce = 0;
  #unanswered = 0;
  /** At the last ping. */
  #unread = 0;
  #stopTimer: () => void = () => {};

  constructor(private readonly options: HeartbeatOptions) {}

  start(): void {
    const { clock, ms, ping, unread, dead } = this.options;
    this.#stopTimer = clock.after(ms, () => {
      const before = this.#unread;
      this.#unread = unread();
      const reading = this.#unread < before;
      if (this.#unanswered >= MAX_MISSED && !reading) return dead(this.#unanswered);
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
