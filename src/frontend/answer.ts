import { type Generation, type GenerationPlan, generation, observed } from './generation.ts';
import type { FrontendMetrics, RequestLabels, RequestMetrics, RequestOutcome } from './metrics.ts';
import { collect, type ResponseShape } from './response.ts';
import { sseResponse } from './sse.ts';

export interface AnswerOptions {
  readonly plan: GenerationPlan;
  readonly shape: ResponseShape;
  readonly endpoint: RequestLabels['endpoint'];
  readonly stream: boolean;
  readonly includeUsage: boolean;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
  /** When the request came, in the milliseconds of `now`. */
  readonly arrived: number;
  readonly now: () => number;
  readonly metrics: FrontendMetrics;
  readonly failed: (error: unknown) => void;
}

/** Computes a plan and answers with it, streaming or whole. Computing stops when the client leaves. Throws what fails before the answer began. */
export async function answer(options: AnswerOptions): Promise<Response> {
  const { plan, shape, stream } = options;
  const left = new AbortController();
  const signal = AbortSignal.any([options.signal, left.signal]);
  const metrics = options.metrics.started({ model: plan.model.name, endpoint: options.endpoint, stream });
  const run = new Run(options, generation(plan, signal), metrics, signal);
  if (stream) return sseResponse(run.chunks(), { left: () => left.abort(), failed: options.failed });
  return run.measured(async () => {
    const choices = await collect(run.deltas(), signal);
    return Response.json(shape.whole(choices, run.generation.tally.usage()));
  });
}

class Run {
  readonly #options: AnswerOptions;
  readonly #metrics: RequestMetrics;
  readonly #signal: AbortSignal;

  constructor(
    options: AnswerOptions,
    readonly generation: Generation,
    metrics: RequestMetrics,
    signal: AbortSignal,
  ) {
    this.#options = options;
    this.#metrics = metrics;
    this.#signal = signal;
  }

  deltas() {
    return observed(this.generation.deltas, this.#metrics, this.#options.arrived, this.#options.now);
  }

  async *chunks(): AsyncGenerator<object, void, void> {
    let status: RequestOutcome['status'] = 'cancelled';
    try {
      for await (const delta of this.deltas()) yield* this.#options.shape.chunks(delta);
      if (this.#options.includeUsage) yield this.#options.shape.usageChunk(this.generation.tally.usage());
      status = 'success';
    } catch (error) {
      status = 'error';
      throw error;
    } finally {
      this.#finished(status);
    }
  }

  async measured<T>(work: () => Promise<T>): Promise<T> {
    let status: RequestOutcome['status'] = 'error';
    try {
      const result = await work();
      status = 'success';
      return result;
    } finally {
      this.#finished(status);
    }
  }

  #finished(status: RequestOutcome['status']): void {
    const { tally } = this.generation;
    this.#metrics.finished({
      // Whatever came of it, nobody was there to read it.
      status: this.#signal.aborted ? 'cancelled' : status,
      seconds: (this.#options.now() - this.#options.arrived) / 1000,
      promptTokens: tally.promptTokens,
      cachedTokens: tally.cachedTokens,
      completionTokens: tally.completionTokens,
    });
  }
}
