import type { Clock } from '../../protocol/clock.ts';

/** Something that was started and may end by itself. */
export interface Running {
  /** Resolves with why it ended, as the rest of a sentence about it: `crashed`. Never rejects. */
  readonly ended: Promise<string>;
}

export interface KeeperOptions {
  /** What is kept, for messages: `Node 2`. */
  readonly name: string;
  readonly start: () => Promise<Running>;
  readonly clock: Clock;
  readonly say: (line: string) => void;
}

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** What ran so long does not die of its start: the next pause is the first one again. */
const STEADY_MS = 60_000;

/** Starts a thing again whenever it ends, with pauses that grow while it goes on ending. */
export class Keeper {
  readonly #options: KeeperOptions;
  #startedAt = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** Starts it for the first time. Rejects when that fails, and does not try again then. */
  async begin(): Promise<void> {
    await this.#start();
  }

  /** From now on it may end. */
  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #start(): Promise<void> {
    this.#startedAt = this.#options.clock.now();
    const { ended } = await this.#options.start();
    void ended.then((why) => this.#again(why));
  }

  #again(why: string): void {
    const { name, clock, say } = this.#options;
    if (this.#stopped) return;
    if (clock.now() - this.#startedAt >= STEADY_MS) this.#pauseMs = FIRST_PAUSE_MS;
    const ms = this.#pauseMs;
    this.#pauseMs = Math.min(2 * ms, LONGEST_PAUSE_MS);
    say(`${name} ${why}. It is started again in ${ms / 1000} s.`);
    this.#cancel = clock.after(ms, () => {
      this.#start().catch((error: unknown) =>
        this.#again(`did not start (${error instanceof Error ? error.message : String(error)})`),
      );
    });
  }
}
