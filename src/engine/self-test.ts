import * as z from 'zod';
import { adapterName } from '../protocol/adapter-name.ts';
import type { GenerateRequest } from '../protocol/generate.ts';
import { GREEDY, type SamplingParams, TokenId } from '../protocol/sampling.ts';
import { EngineError } from './api.ts';
import { checkLayer } from './model/layer-check.ts';
import type { Runner, StepResult } from './runner.ts';
import type { Scheduler, StepPlan } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import { LOGIT_SAMPLE } from './tables.ts';

const ids = z.array(TokenId).min(1).max(1024);

/**
 * What the reference implementation gives for a model (`self-test.json` in its folder): a greedy continuation without
 * near ties, and the logprobs of a text's tokens after the first.
 */
export const Golden = z.object({
  greedy: z.object({ prompt: ids, tokens: ids }),
  scored: z.object({ tokens: ids, logprobs: z.array(z.number()).max(1024) }),
});
export type Golden = z.infer<typeof Golden>;

/** Room for sums in another order and for the rounding of the KV cache; a wrong constant or a lost dispatch is off by more. */
const LOGPROB_TOLERANCE = { f32: 0.02, f16: 0.05, bf16: 0.4, int8: 0.4 } as const;
/** Long enough for a wrong position, window or angle to show in a layer. */
const LAYER_PROMPT = 24;
const STEPS_WITHOUT_GOLDEN = 4;

export interface SelfTestInputs {
  readonly runner: Runner;
  readonly newScheduler: () => Scheduler;
  /** null = unknown: one layer is checked against the CPU instead. */
  readonly golden: Golden | null;
  /** Longest sequence that context and pool hold; longer texts of the test are cut to it. */
  readonly maxLength: number;
  /** Most rows of a step. */
  readonly largestStep: number;
}

/**
 * Proves, before a node registers, that this adapter computes this model: known tokens and logprobs where they are
 * known, else finite logits and agreement of one layer with a CPU recomputation. A GPU out of memory or a broken
 * driver shows itself only as wrong numbers. Throws `EngineError` code `self_test` with the adapter's name.
 */
export async function selfTest(inputs: SelfTestInputs): Promise<void> {
  const { runner, newScheduler, golden, maxLength } = inputs;
  // What is known is of tokens; and an embedding's values say nothing of a model by themselves.
  const known = golden && !runner.inputs.spec.pools && cutGolden(golden, maxLength);
  const wrong = known
    ? ((await checkGreedy(runner, newScheduler(), known)) ?? (await checkScores(runner, newScheduler(), known)))
    : await checkUnknown(inputs);
  if (wrong === null) return;
  throw new EngineError(
    'self_test',
    `The self-test failed on "${adapterName(runner.inputs.gpu.adapter)}": ${wrong}. This node does not serve. Update the graphics driver or browser, or lend another GPU.`,
  );
}

function cutGolden({ greedy, scored }: Golden, maxLength: number): Golden {
  const tokens = scored.tokens.slice(0, maxLength - 1);
  return {
    greedy: { ...greedy, tokens: greedy.tokens.slice(0, Math.max(0, maxLength - greedy.prompt.length)) },
    scored: { tokens, logprobs: scored.logprobs.slice(0, tokens.length - 1) },
  };
}

async function checkGreedy(runner: Runner, scheduler: Scheduler, { greedy }: Golden): Promise<string | null> {
  if (greedy.tokens.length === 0) return null;
  const got: number[] = [];
  await runAlone(runner, scheduler, greedy.prompt, { maxTokens: greedy.tokens.length }, (plan, result) => {
    for (const [i, row] of plan.logitRows.entries()) if (row.kind & LOGIT_SAMPLE) got.push(result.samples[i]!);
  });
  const at = greedy.tokens.findIndex((token, i) => got[i] !== token);
  return at < 0
    ? null
    : `token ${at} of the known answer came out as ${got[at] ?? 'nothing'}, it is ${greedy.tokens[at]}`;
}

async function checkScores(runner: Runner, scheduler: Scheduler, { scored }: Golden): Promise<string | null> {
  const got: number[] = [];
  await runAlone(runner, scheduler, scored.tokens, { maxTokens: 1, promptLogprobs: 0 }, (plan, result) => {
    for (const [i, row] of plan.logitRows.entries()) {
      if (!(row.kind & LOGIT_SAMPLE))
        got[row.position] = result.logprob(i, scored.tokens[row.position + 1]!, 0).logprob;
    }
  });
  const tolerance = LOGPROB_TOLERANCE[runner.inputs.kvDtype];
  const at = scored.logprobs.findIndex((logprob, i) => !(Math.abs(got[i]! - logprob) <= tolerance));
  return at < 0
    ? null
    : `the logprob of token ${at + 1} of a known text came out as ${got[at]}, it is ${scored.logprobs[at]}`;
}

async function checkUnknown(inputs: SelfTestInputs): Promise<string | null> {
  const { runner, newScheduler, maxLength, largestStep } = inputs;
  const { spec } = runner.inputs;
  const prompt = Array.from(
    { length: Math.min(LAYER_PROMPT, maxLength - STEPS_WITHOUT_GOLDEN) },
    (_, i) => (i * 37 + 3) % spec.vocabSize,
  );
  const bad = spec.pools
    ? await checkPooled(runner, newScheduler(), prompt)
    : await checkLogprobs(runner, newScheduler(), prompt);
  return bad ?? (await checkLayer(runner, newScheduler(), prompt.slice(0, largestStep)));
}

async function checkPooled(runner: Runner, scheduler: Scheduler, prompt: number[]): Promise<string | null> {
  const { hiddenSize } = runner.inputs.spec;
  const sums: number[] = [];
  const pooling = { type: 'MEAN', normalize: false, dimensions: hiddenSize } as const;
  await runAlone(runner, scheduler, prompt, { maxTokens: 1, pooling }, (plan, result) => {
    for (const i of plan.logitRows.keys()) sums.splice(0, sums.length, ...result.pooled(i));
  });
  const bad = sums.find((value) => !Number.isFinite(value));
  if (bad !== undefined || sums.length !== hiddenSize) return `an embedding has ${bad ?? `${sums.length} values`}`;
  return sums.some((value) => value !== 0) ? null : 'an embedding came out as zeros';
}

async function checkLogprobs(runner: Runner, scheduler: Scheduler, prompt: number[]): Promise<string | null> {
  const logprobs: number[] = [];
  await runAlone(runner, scheduler, prompt, { maxTokens: STEPS_WITHOUT_GOLDEN, logprobs: 0 }, (plan, result) => {
    for (const [i] of plan.logitRows.entries()) logprobs.push(result.logprob(i, result.samples[i]!, 0).logprob);
  });
  const bad = logprobs.find((l) => !(l <= 1e-3 && l > -1e4));
  if (bad !== undefined || logprobs.length !== STEPS_WITHOUT_GOLDEN)
    return `logprobs came out as ${logprobs.join(', ')}`;
  return null;
}

async function runAlone(
  runner: Runner,
  scheduler: Scheduler,
  prompt: number[],
  { pooling, ...sampling }: Partial<SamplingParams> & { maxTokens: number } & Pick<GenerateRequest, 'pooling'>,
  onStep: (plan: StepPlan, result: StepResult) => void,
): Promise<void> {
  const request = { request: 'self-test', prompt, choices: [], sampling: { ...GREEDY, ...sampling }, pooling };
  scheduler.add([new Sequence(request, 0, [], prompt.length + sampling.maxTokens)]);
  for (let plan = scheduler.schedule(); plan; plan = scheduler.schedule()) {
    const result = await (await runner.submit(plan)).result;
    onStep(plan, result);
    scheduler.consume(plan, result.samples);
  }
}
