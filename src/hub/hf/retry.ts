import { HubStartError } from '../start-error.ts';

/** Retries in a row that gain less than `PROGRESS_BYTES` each. */
const MAX_RETRIES = 5;
const PROGRESS_BYTES = 1024 * 1024;
const FIRST_DELAY_MS = 1000;
/** A server that asks for a longer pause is told of, and not waited for. */
const LONGEST_PAUSE_MS = 120_000;

export interface RetryIo {
  readonly say: (line: string) => void;
  readonly sleep: (ms: number) => Promise<void>;
}

/** A server that is busy; `pauseMs` where it said for how long. */
export class BusyError extends Error {
  constructor(
    message: string,
    readonly pauseMs: number | null,
  ) {
    super(message);
  }
}

/**
 * Runs `work` until it ends, at most five times in a row without progress, with back-off, or the pause that the server asks for.
 * `work` tells of the bytes that it gained. `HubStartError` is final; all else that it throws is tried again.
 * what: for messages, as in `model.safetensors`. Throws `HubStartError`.
 */
export async function retrying<T>(
  what: string,
  io: RetryIo,
  work: (gained: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  for (let failures = 0; ; ) {
    let bytes = 0;
    try {
      return await work((gained) => {
        bytes += gained;
      });
    } catch (error) {
      if (error instanceof HubStartError) throw error;
      const why = error instanceof Error ? error.message || error.name : String(error);
      failures = bytes >= PROGRESS_BYTES ? 1 : failures + 1;
      if (failures > MAX_RETRIES) {
        throw new HubStartError(
          `${what}: failed ${failures} times in a row, last: ${why}. Check the connection, then start again: what is here stays.`,
        );
      }
      const asked = error instanceof BusyError ? (error.pauseMs ?? 0) : 0;
      if (asked > LONGEST_PAUSE_MS) {
        throw new HubStartError(
          `${what}: ${why}, and the server asks to come back in ${Math.ceil(asked / 1000)} s. Start again then: what is here stays.`,
        );
      }
      const pause = Math.max(asked, FIRST_DELAY_MS * 2 ** (failures - 1) * (0.5 + Math.random() / 2));
      io.say(`${what}: ${why}; try ${failures} of ${MAX_RETRIES} in ${(pause / 1000).toFixed(1)} s`);
      await io.sleep(pause);
    }
  }
}

/** Milliseconds that a `Retry-After` header asks for (seconds, or a date); null where it asks for none. */
export function retryAfterMs(header: string | undefined, now: number): number | null {
  if (header === undefined) return null;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}
