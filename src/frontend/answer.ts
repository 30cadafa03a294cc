import type { Migration } from './backend.ts';
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
    const whole = shape.whole(choices, run.generation.tally.usage());
    return Response.json(withMigrations(whole, run.generation.migrations));
  });
}

/** Says in `nvext`, the field of Dynamo's extensions, that the answer came from more than one node. */
function withMigrations(body: object, migrations: readonly Migration[]): object {
  if (migrations.length === 0) return body;
  const told = migrations.map(({ attempt, from, to, tokens, numericsChanged }) => {
    return { attempt, from_node: from, to_node: to, completion_tokens: tokens, numerics_changed: numericsChanged };
  });
  return { ...body, nvext: { migrations: told } };
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
    let told = 0;
    try {
      for await (const delta of this.deltas()) {
        for (const chunk of this.#options.shape.chunks(delta)) {
          const migrations = this.generation.migrations.slice(told);
          told += migrations.length;
          yield withMigrations(chunk, migrations);
        }
      }
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
