import type { GenerateRequest } from '../protocol/generate.ts';
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
  /** Each choice is held to it; null = free. */
  readonly grammar: string | null;
}

export interface Generation {
  readonly plan: GenerationPlan;
  readonly tally: Tally;
  /** Deltas of all choices as they come; ends when all have. Read it once. */
  readonly deltas: AsyncGenerator<ChoiceDelta, void, void>;
}

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
  const deltas = one ? runPrompt(plan, routes, 0, tally, signal) : runAll(plan, routes, tally, signal);
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
    yield* merge(plan.prompts.map((_, at) => runPrompt(plan, routes, at, tally, either)));
  } finally {
    stop.abort();
  }
}

async function* runPrompt(
  plan: GenerationPlan,
  routes: RouteReport,
  at: number,
  tally: Tally,
  signal: AbortSignal,
): AsyncGenerator<ChoiceDelta, void, void> {
  const { ids, embeds, sampling } = plan.prompts[at] as PlannedPrompt;
  const choices = Array.from(
    { length: plan.n },
    (_, choice) => new ChoiceStream(at * plan.n + choice, plan.model.tokenizer, plan.output),
  );
  const request: GenerateRequest = {
    request: `${plan.id}-${at}`,
    prompt: [...ids],
    ...(embeds === undefined ? {} : { embeds }),
    choices: choices.map((_, choice) => ({ choice, generated: [] })),
    sampling,
    ...(plan.cacheSalt === undefined ? {} : { cacheSalt: plan.cacheSalt }),
    ...(plan.traceparent === undefined ? {} : { traceparent: plan.traceparent }),
    ...(plan.priority === undefined ? {} : { priority: plan.priority }),
    ...(plan.grammar === null ? {} : { grammar: plan.grammar }),
  };
  const own = new AbortController();
  try {
    const either = AbortSignal.any([signal, own.signal]);
    for await (const frame of plan.model.backend.generate(request, either, routes.of(at))) {
      const choice = choices[frame.choice];
      if (choice === undefined) throw new Error(`${request.request} has no choice ${frame.choice}`);
      if (choice.ended) continue;
      const delta = choice.push(frame);
      tally.completionTokens += delta.tokens.length;
      // Of n choices the first one shows what the cache had; the others may share what it computed.
      if (frame.choice === 0) tally.cachedTokens += delta.cachedTokens ?? 0;
      yield delta;
      if (choice.ended && choices.every((each) => each.ended)) return;
    }
    if (!signal.aborted) throw new Error(`${request.request} ended before all of its choices had`);
  } finally {
    // After a stop string the engine is still at it.
    own.abort();
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
