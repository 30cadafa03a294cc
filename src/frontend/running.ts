import type { Clock } from '../protocol/clock.ts';
import { ApiError, badRequest } from './errors.ts';

/** Longest time that a request may be given: a week. Timers reach no further than 24 days. */
export const MAX_TIMEOUT_SECONDS = 604_800;

/** Why a request was ended before its time: its client left, somebody asked for it, it took too long. */
export type CancelCause = 'disconnect' | 'api' | 'timeout';

/** An end that somebody is still there to read of. */
class Cancelled extends ApiError {
  constructor(
    readonly by: CancelCause,
    ...error: ConstructorParameters<typeof ApiError>
  ) {
    super(...error);
  }
}

export interface RunningOptions {
  /** Most seconds of any request, from its arrival to its last byte; null = as long as it takes. */
  readonly timeoutSeconds: number | null;
  readonly after: Clock['after'];
}

export interface RunningRequest {
  /** Aborts when the client leaves, when the request is cancelled, and when its time is over. */
  readonly signal: AbortSignal;
  /** The client is gone. */
  left(): void;
  /** It was answered, or failed. */
  ended(): void;
}

/** The API requests in work, by the ids under which they can be cancelled. */
export class RunningRequests {
  readonly #options: RunningOptions;
  readonly #byId = new Map<string, Set<{ readonly owner: string | null; readonly stop: AbortController }>>();

  constructor(options: RunningOptions) {
    this.#options = options;
  }

  /**
   * `ids`: the response's, and the `x-request-id`, which others may have too. `owner`: the key that it came with; only it may cancel.
   * `client` aborts when the client leaves. `seconds`: the request's own bound, null = the hub's.
   */
  begin(ids: readonly string[], owner: string | null, client: AbortSignal, seconds: number | null): RunningRequest {
    const stop = new AbortController();
    const entry = { owner, stop };
    for (const id of ids) this.#byId.set(id, (this.#byId.get(id) ?? new Set()).add(entry));
    const { after, timeoutSeconds } = this.#options;
    const bound = Math.min(seconds ?? Number.POSITIVE_INFINITY, timeoutSeconds ?? Number.POSITIVE_INFINITY);
    const cancelTimer = Number.isFinite(bound) ? after(bound * 1000, () => stop.abort(timedOut(bound))) : () => {};
    const left = () => stop.abort();
    client.addEventListener('abort', left, { once: true });
    if (client.aborted) left();
    return {
      signal: stop.signal,
      left,
      ended: () => {
        cancelTimer();
        client.removeEventListener('abort', left);
        for (const id of ids) {
          const entries = this.#byId.get(id);
          entries?.delete(entry);
          if (entries?.size === 0) this.#byId.delete(id);
        }
      },
    };
  }

  /** Cancels the owner's requests of this id. False when there is none. */
  cancel(id: string, owner: string | null): boolean {
    const own = [...(this.#byId.get(id) ?? [])].filter((entry) => entry.owner === owner);
    for (const { stop } of own) {
      const message = `The request was cancelled: somebody asked for it by its id, ${id}.`;
      stop.abort(new Cancelled('api', 499, 'invalid_request_error', message, { code: 'request_cancelled' }));
    }
    return own.length > 0;
  }
}

/** What a client that is still there reads of the end of its request; null when it was the client who left. */
export function cancelError({ reason }: AbortSignal): ApiError | null {
  return reason instanceof Cancelled ? reason : null;
}

/** null: the signal has not aborted. */
export function cancelCause({ aborted, reason }: AbortSignal): CancelCause | null {
  if (!aborted) return null;
  return reason instanceof Cancelled ? reason.by : 'disconnect';
}

/** Of header `x-request-timeout`: seconds, from the request's arrival to its last byte. Throws `ApiError` 400. */
export function requestTimeout(header: string | null): number | null {
  if (header === null) return null;
  const seconds = Number(header);
  if (/^\d{1,6}(\.\d{1,6})?$/.test(header) && seconds > 0 && seconds <= MAX_TIMEOUT_SECONDS) return seconds;
  throw badRequest(
    `The header 'x-request-timeout' must be a number of seconds above 0 and up to ${MAX_TIMEOUT_SECONDS}.`,
    'x-request-timeout',
  );
}

function timedOut(seconds: number): Cancelled {
  const message = `The request was not done within its ${seconds} seconds. Ask for fewer tokens, or give it more time: header 'x-request-timeout', and --request-timeout of the hub.`;
  return new Cancelled('timeout', 504, 'timeout_error', message, { code: 'timeout' });
}
