import type { CancelCause } from './running.ts';

export interface RequestLabels {
  readonly model: string;
  readonly endpoint: 'chat_completions' | 'completions' | 'embeddings' | 'responses' | 'anthropic_messages';
  readonly stream: boolean;
}

/** What names one request, for logs. */
export interface RequestFacts extends RequestLabels {
  /** Of the response. */
  readonly id: string;
  /** Its `x-request-id`. */
  readonly requestId: string | null;
  readonly traceparent: string | undefined;
}

export interface RequestOutcome {
  readonly status: 'success' | 'error' | 'cancelled';
  /** Why it was cancelled; null for the others. */
  readonly cause: CancelCause | null;
  /** From the request's arrival to the last byte. */
  readonly seconds: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
}

/** What one request tells while it runs; each method is cheap and never throws. */
export interface RequestMetrics {
  /** Once: seconds from arrival to the first token. */
  firstToken(seconds: number): void;
  /** Seconds between two frames of one choice, divided by the tokens of the later one. */
  interToken(seconds: number): void;
  /** Tokens that just came. */
  generated(tokens: number): void;
  /** Once a choice, with its finish reason. */
  choiceEnded(reason: string): void;
  /** Once, last. */
  finished(outcome: RequestOutcome): void;
}

/** Counts requests of known models; refusals before a model is found are not told (their labels would be unbounded). */
export interface FrontendMetrics {
  started(request: RequestFacts): RequestMetrics;
}

const silent: RequestMetrics = { firstToken() {}, interToken() {}, generated() {}, choiceEnded() {}, finished() {} };

/** For where nobody reads metrics (solo mode). */
export const NO_METRICS: FrontendMetrics = { started: () => silent };
