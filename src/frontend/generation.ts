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
  return { plan, tally, deltas: runAll(plan, routes, tally, signal) };
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
    for await (const delta of merge(plan.prompts.map((_, at) => runPrompt(plan, routes, at, either)))) {
      tally.completionTokens += delta.tokens.length;
      // Of n choices the first one shows what the cache had; the others may share what it computed.
      if (delta.choice % plan.n === 0) tally.cachedTokens += delta.cachedTokens ?? 0;
      yield delta;
    }
  } finally {
    stop.abort();
  }
}

async function* runPrompt(
  plan: GenerationPlan,
  routes: RouteReport,
  at: number,
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
  };
  const own = new AbortController();
  try {
    const either = AbortSignal.any([signal, own.signal]);
    for await (const frame of plan.model.backend.generate(request, either, routes.of(at))) {
      const choice = choices[frame.choice];
      if (choice === undefined) throw new Error(`${request.request} has no choice ${frame.choice}`);
      if (choice.ended) continue;
      yield choice.push(frame);
      if (choices.every((each) => each.ended)) return;
    }
    if (!signal.aborted) throw new Error(`${request.request} ended before all of its choices had`);
  } finally {
    // After a stop string the engine is still at it.
    own.abort();
  }
}

/** The same deltas, told to `metrics` as they pass. `now` in milliseconds. */
export async function* observed(
  deltas: AsyncIterable<ChoiceDelta>,
  metrics: RequestMetrics,
  arrived: number,
  now: () => number,
): AsyncGenerator<ChoiceDelta, void, void> {
  const last = new Map<number, number>();
  for await (const delta of deltas) {
    if (delta.tokens.length > 0) {
      const at = now();
      const before = last.get(delta.choice);
      if (last.size === 0) metrics.firstToken((at - arrived) / 1000);
      if (before !== undefined) metrics.interToken((at - before) / 1000 / delta.tokens.length);
      last.set(delta.choice, at);
    }
    yield delta;
  }
}
