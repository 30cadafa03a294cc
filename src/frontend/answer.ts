import type { Clock } from '../protocol/clock.ts';
import type { ChoiceDelta } from './choice-stream.ts';
import { type Generation, type GenerationPlan, generation, Observer } from './generation.ts';
import type { FrontendMetrics, RequestLabels, RequestMetrics, RequestOutcome } from './metrics.ts';
import { nvextOf } from './nvext.ts';
import { collect, type ResponseShape } from './response.ts';
import type { KvTransfer, Migration, Nvext, RouteReport } from './routing.ts';
import { cancelCause, cancelError, type RunningRequest } from './running.ts';
import { type ChunkSource, type Chunks, sseResponse } from './sse.ts';

export interface AnswerOptions {
  readonly plan: GenerationPlan;
  readonly shape: ResponseShape;
  readonly endpoint: RequestLabels['endpoint'];
  readonly routes: RouteReport;
  /** What the request asked to be told in `nvext`. */
  readonly extraFields: Nvext['extra_fields'];
  readonly stream: boolean;
  /** Each chunk tells the usage so far (vLLM's `continuous_usage_stats`). */
  readonly continuousUsage: boolean;
  /** Its `x-request-id`. */
  readonly requestId: string | null;
  /** See `ApiOptions`. */
  readonly keepAliveSeconds: number | null;
  readonly running: RunningRequest;
  /** When the request came, in the milliseconds of `now`. */
  readonly arrived: number;
  readonly now: () => number;
  readonly after: Clock['after'];
  readonly metrics: FrontendMetrics;
  readonly failed: (error: unknown) => void;
}

const DONE = { done: true, value: undefined } as const;

/** Computes a plan and answers with it, streaming or whole. Computing stops when the client leaves, the request is cancelled or its time is over. Throws what fails before the answer began. */
export async function answer(options: AnswerOptions): Promise<Response> {
  const { plan, routes, shape, stream } = options;
  const { left, signal } = options.running;
  const metrics = options.metrics.started({
    model: plan.model.name,
    endpoint: options.endpoint,
    stream,
    id: plan.id,
    requestId: options.requestId,
    traceparent: plan.traceparent,
  });
  const run = new Run(options, generation(plan, routes, signal), metrics, signal);
  if (stream) {
    const { keepAliveSeconds, after, failed } = options;
    const response = await sseResponse(run, shape, { left, failed }, { keepAliveSeconds, after, signal });
    for (const [name, value] of Object.entries(routes.headers())) response.headers.set(name, value);
    return response;
  }
  return run.measured(async () => {
    const choices = await collect(run.generation.deltas, signal, (delta) => run.observer.see(delta));
    const whole = {
      ...shape.whole(choices, run.generation.tally.usage()),
      ...run.nvext(0, routes.migrations, routes.anyTransfer()),
    };
    return Response.json(whole, { headers: routes.headers() });
  });
}

class Run implements ChunkSource {
  readonly #options: AnswerOptions;
  readonly #metrics: RequestMetrics;
  readonly #signal: AbortSignal;
  readonly observer: Observer;
  /** Migrations that chunks have told of. */
  #told = 0;
  #begun = false;
  #over = false;

  constructor(
    options: AnswerOptions,
    readonly generation: Generation,
    metrics: RequestMetrics,
    signal: AbortSignal,
  ) {
    this.#options = options;
    this.#metrics = metrics;
    this.#signal = signal;
    this.observer = new Observer(metrics, options.arrived, options.now);
  }

  /** What a chunk or an answer tells of its way; null = of no prompt, only of `migrations`. */
  nvext(prompt: number | null, migrations: readonly Migration[], transfer?: KvTransfer): { nvext?: object } {
    const { arrived, extraFields, now, routes } = this.#options;
    const times = { arrived, firstToken: this.observer.firstToken, now: now() };
    const way = { routed: routes.at(prompt ?? 0), prefilledBy: routes.prefilledBy(prompt ?? 0), transfer };
    return nvextOf(prompt === null ? undefined : extraFields, way, times, migrations);
  }

  /** The chunks of the next delta. Asked again only once the answer is there. */
  next(): Promise<Chunks> {
    if (this.#over) return Promise.resolve(DONE);
    return this.generation.deltas.next().then(this.#take, this.#fail);
  }

  /** Nobody reads it any more. */
  return(): void {
    this.#end('cancelled');
  }

  readonly #take = (result: IteratorResult<ChoiceDelta, void>): Chunks => {
    if (this.#over) return DONE;
    try {
      return { done: false, value: result.done === true ? this.#last() : this.#chunks(result.value) };
    } catch (error) {
      return this.#fail(error);
    }
  };

  readonly #fail = (error: unknown): never => {
    this.#end('error');
    throw error;
  };

  #chunks(delta: ChoiceDelta): readonly (object | string)[] {
    this.observer.see(delta);
    if (this.#signal.aborted) return this.#last();
    const { shape } = this.#options;
    const chunks: (object | string)[] = this.#begun ? [] : [...shape.start(this.generation.tally.usage())];
    this.#begun = true;
    for (const chunk of shape.chunks(delta)) chunks.push(this.#withMore(chunk, delta));
    return chunks;
  }

  #last(): readonly object[] {
    const cancelled = cancelError(this.#signal);
    if (cancelled !== null) throw cancelled;
    const chunks = [...this.#options.shape.end(this.generation.tally.usage())];
    this.#end('success');
    return chunks;
  }

  #end(status: RequestOutcome['status']): void {
    if (this.#over) return;
    this.#over = true;
    void this.generation.deltas.return?.();
    this.#finished(status);
  }

  /** A chunk, with the usage so far and the way of the answer, where there is something to tell of them. */
  #withMore(chunk: object | string, { choice, finish }: ChoiceDelta): object | string {
    const { continuousUsage, routes } = this.#options;
    if (finish === null && !continuousUsage && routes.migrations.length === this.#told) return chunk;
    const migrations = routes.migrations.slice(this.#told);
    this.#told += migrations.length;
    const prompt = finish === null ? null : Math.floor(choice / this.generation.plan.n);
    const transfer = prompt === null ? undefined : routes.transfer(prompt);
    const usage = continuousUsage ? { usage: this.generation.tally.usage() } : {};
    const fields = typeof chunk === 'string' ? (JSON.parse(chunk) as object) : chunk;
    return { ...fields, ...usage, ...this.nvext(prompt, migrations, transfer) };
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
    const cause = cancelCause(this.#signal);
    this.#options.running.ended();
    this.#metrics.finished({
      // Whatever came of it, nobody was there to read it.
      status: cause === null ? status : 'cancelled',
      cause,
      seconds: (this.#options.now() - this.#options.arrived) / 1000,
      promptTokens: tally.promptTokens,
      cachedTokens: tally.cachedTokens,
      completionTokens: tally.completionTokens,
    });
  }
}
