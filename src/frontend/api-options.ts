import type { Clock } from '../protocol/clock.ts';
import type { ServedModel } from './backend.ts';
import { toApiError } from './errors.ts';
import type { FrontendMetrics } from './metrics.ts';
import type { StoreBounds } from './responses/response-store.ts';

export interface ApiOptions {
  /** The models served now; asked on every request. */
  models(): readonly ServedModel[];
  readonly maxBodyBytes: number;
  /** Whether requests may have `prompt_embeds` (`--enable-prompt-embeds`); their bodies may be longer by as much as those take. */
  readonly promptEmbeds: boolean;
  /** A fresh 64-bit seed as [low, high] u32, for requests that bring none. */
  drawSeed(): [number, number];
  /** Milliseconds since the epoch (`Date.now`). */
  now(): number;
  readonly after: Clock['after'];
  /** Most seconds of a request, from its arrival to its last byte; null = as long as it takes. */
  readonly timeoutSeconds: number | null;
  /** Seconds of silence after which a stream gets a comment, so that nothing between server and client takes it for dead; null = none. */
  readonly keepAliveSeconds: number | null;
  readonly metrics: FrontendMetrics;
  /** Whether requests may have another `priority` than 0 (`--scheduling-policy priority`). */
  readonly priorities: boolean;
  /** Bounds of the responses that are kept, in memory, for `previous_response_id`. */
  readonly storedResponses: StoreBounds;
  /** Told of every error that is answered as a 500, for the log; must not throw. */
  internalError(error: unknown): void;
}

/** What whoever mounts the API may have set for a request: its id, and the key that it showed. */
export interface ApiEnv {
  Variables: { requestId?: string; apiKey?: string };
}

/** Tells the server of what it answers as a 500. */
export function report(error: unknown, options: ApiOptions): void {
  if (toApiError(error).status === 500) options.internalError(error);
}
