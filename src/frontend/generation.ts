import type { GenerateRequest, HeldTo, TokensFrame } from '../protocol/generate.ts';
import type { PromptEmbeds } from '../protocol/prompt-embeds.ts';
import type { SamplingParams } from '../protocol/sampling.ts';
import type { ServedModel } from './backend.ts';
import { type ChoiceDelta, ChoiceStream, type OutputOptions } from './choice-stream.ts';
import { badRequest } from './errors.ts';
import { merge } from './merge.ts';
import type { RequestMetrics } from './metrics.ts';
import { MAX_CHOICES } from './request-fields.ts';
import type { RouteReport } from './routing.ts';
import { Tally } from './usage.ts';

export interface PlannedPrompt {
  /** All of them `NO_ID` where its embeddings are given. */
  readonly ids: readonly number[];
  readonly embeds?: PromptEmbeds;
  readonly sampling: SamplingParams;
}

export interface GenerationPlan {
  /** Id of the whole response; each prompt's request id is made of it. */
  readonly id: string;
  readonly model: ServedModel;
  /** Choices are numbered prompt by prompt: prompt p's choice c is p * n + c. */
  readonly prompts: readonly PlannedPrompt[];
  readonly n: number;
  readonly output: OutputOptions;
  readonly cacheSalt: string | undefined;
  readonly priority: number | undefined;
  /** Of the client's trace. */
  readonly traceparent?: string | undefined;
  readonly heldTo: HeldTo;
}

export interface Generation {
  readonly plan: GenerationPlan;
  readonly tally: Tally;
  /** Deltas of all choices as they come; ends when all have. Read it once. */
  readonly deltas: AsyncIterableIterator<ChoiceDelta, void>;
}

type Result = IteratorResult<ChoiceDelta, void>;
const DONE = { done: true, value: undefined } as const;

/** Throws `ApiError` 400 when prompts times `n` are too many. */
export function checkChoices(prompts: number, n: number): void {
  if (prompts * n > MAX_CHOICES) {
    throw badRequest(
      `${prompts} prompts with n = ${n} are ${prompts * n} choices; one request may have ${MAX_CHOICES}.`,
      'n',
    );
  }
}

/** Sets a plan's computing up; it starts when `deltas` is read, and stops at once when `signal` aborts or the reader leaves. */
export function generation(plan: GenerationPlan, routes: RouteReport, signal: AbortSignal): Generation {
  const tally = new Tally(plan.prompts.reduce((sum, prompt) => sum + prompt.ids.length, 0));
  // Nearly all requests have one prompt, and each generator that a token passes costs time.
  const one = plan.prompts.length === 1;
  const deltas = one ? new PromptDeltas(plan, routes, 0, tally, signal) : runAll(plan, routes, tally, signal);
  return { plan, tally, deltas };
}

async function* runAll(
  plan: GenerationPlan,
  routes: RouteReport,
  tally: Tally,
  signal: AbortSignal,
): AsyncGenerator<ChoiceDelta, void, void> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  try {
    yield* merge(plan.prompts.map((_, at) => new PromptDeltas(plan, routes, at, tally, either)));
  } finally {
    stop.abort();
  }
}

/** The deltas of one prompt. Written out, since an async generator would take several turns of the microtask queue for each token. */
class PromptDeltas implements AsyncIterableIterator<ChoiceDelta, void> {
  readonly #plan: GenerationPlan;
  readonly #routes: RouteReport;
  readonly #at: number;
  readonly #tally: Tally;
  readonly #signal: AbortSignal;
  /** After a stop string the engine is still at it. */
  readonly #stop = new AbortController();
  readonly #choices: readonly ChoiceStream[];
  /** Choices that have not ended. */
  #open: number;
  #frames: AsyncIterator<TokensFrame> | null = null;
  #over = false;

  constructor(plan: GenerationPlan, routes: RouteReport, at: number, tally: Tally, signal: AbortSignal) {
    this.#plan = plan;
    this.#routes = routes;
    this.#at = at;
    this.#tally = tally;
    this.#signal = signal;
    this.#choices = Array.from(
      { length: plan.n },
      (_, choice) => new ChoiceStream(at * plan.n + choice, plan.model.tokenizer, plan.output),
    );
    this.#open = plan.n;
  }

  /** Asked again only once the answer is there. */
  next(): Promise<Result> {
    if (this.#over) return Promise.resolve(DONE);
    try {
      this.#frames ??= this.#begin();
      return this.#frames.next().then(this.#take, this.#fail);
    } catch (error) {
      return Promise.reject(this.#ended(error));
    }
  }

  return(): Promise<Result> {
    this.#end();
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #begin(): AsyncIterator<TokensFrame> {
    const either = AbortSignal.any([this.#signal, this.#stop.signal]);
    const { backend } = this.#plan.model;
    return backend.generate(this.#request(), either, this.#routes.of(this.#at))[Symbol.asyncIterator]();
  }

  #request(): GenerateRequest {
    const plan = this.#plan;
    const { ids, embeds, sampling } = plan.prompts[this.#at] as PlannedPrompt;
    return {
      request: `${plan.id}-${this.#at}`,
      prompt: [...ids],
      ...(embeds === undefined ? {} : { embeds }),
      choices: this.#choices.map((_, choice) => ({ choice, generated: [] })),
      sampling,
      ...(plan.cacheSalt === undefined ? {} : { cacheSalt: plan.cacheSalt }),
      ...(plan.traceparent === undefined ? {} : { traceparent: plan.traceparent }),
      ...(plan.priority === undefined ? {} : { priority: plan.priority }),
      ...plan.heldTo,
    };
  }

  readonly #take = (result: IteratorResult<TokensFrame>): Result | Promise<Result> => {
    if (this.#over) return DONE;
    if (result.done === true) {
      this.#end();
      if (this.#signal.aborted) return DONE;
      throw new Error(`${this.#plan.id}-${this.#at} ended before all of its choices had`);
    }
    try {
      const delta = this.#push(result.value);
      return delta === null ? this.next() : { done: false, value: delta };
    } catch (error) {
      throw this.#ended(error);
    }
  };

  /** null: the choice had ended before. */
  #push(frame: TokensFrame): ChoiceDelta | null {
    const choice = this.#choices[frame.choice];
    if (choice === undefined) throw new Error(`${frame.request} has no choice ${frame.choice}`);
    if (choice.ended) return null;
    const delta = choice.push(frame);
    this.#tally.completionTokens += delta.tokens.length;
    // Of n choices the first one shows what the cache had; the others may share what it computed.
    if (frame.choice === 0) this.#tally.cachedTokens += delta.cachedTokens ?? 0;
    if (delta.finish !== null) {
      this.#open -= 1;
      if (this.#open === 0) this.#end();
    }
    return delta;
  }

  readonly #fail = (error: unknown): never => {
    throw this.#ended(error);
  };

  #ended(error: unknown): unknown {
    this.#end();
    return error;
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stop.abort();
    // Not awaited: a generator in the middle of waiting returns only after that.
    this.#frames?.return?.().catch(() => {});
  }
}

/** Tells `metrics` of a request's deltas as they pass. Times in milliseconds. */
export class Observer {
  /** When the first token came; null before it. */
  firstToken: number | null = null;
  readonly #last = new Map<number, number>();

  constructor(
    private readonly metrics: RequestMetrics,
    private readonly arrived: number,
    private readonly now: () => number,
  ) {}

  see({ choice, tokens, finish }: ChoiceDelta): void {
    if (tokens.length > 0) {
      const at = this.now();
      const before = this.#last.get(choice);
      if (this.firstToken === null) {
        this.firstToken = at;
        this.metrics.firstToken((at - this.arrived) / 1000);
      }
      if (before !== undefined) this.metrics.interToken((at - before) / 1000 / tokens.length);
      this.#last.set(choice, at);
      this.metrics.generated(tokens.length);
    }
    if (finish !== null) this.metrics.choiceEnded(finish.reason);
  }
}
