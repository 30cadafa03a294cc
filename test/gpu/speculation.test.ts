import { afterEach, describe, expect, test } from 'vitest';
import type { SamplingParams } from '../../src/protocol/sampling.ts';
import { type Collected, oracle, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

const SPECULATION = { drafts: 4, lookup: { min: 2, max: 4 } };
const LIMITS = { maxModelLen: 192, numGpuBlocksOverride: 128, enablePrefixCaching: false, maxNumSeqs: 8 };

interface Asked {
  readonly prompt: readonly number[];
  readonly sampling: Partial<SamplingParams>;
}

/** Models that go on repeating themselves when nothing stops them, and prompts that lead there. */
const MODELS = [
  {
    name: 'quire-pico',
    options: {},
    repeating: reference.cases[4]!.input_ids,
    other: reference.cases[6]!.input_ids,
  },
  {
    name: 'a small model on wide kernels',
    options: { folder: oracle('qwen3'), skipGolden: true, wide: true },
    repeating: Array.from({ length: 12 }, (_, i) => 3 + i * 5),
    other: [9, 8, 7, 6],
  },
];

let engine: TestEngine;
afterEach(() => engine.close());

async function answers(requests: readonly Asked[], options: TestEngineOptions): Promise<Collected[]> {
  engine = await TestEngine.create({ ...LIMITS, ...options });
  const got = await Promise.all(requests.map(({ prompt, sampling }) => engine.one(prompt, sampling)));
  return got.map((each) => ({ ...each, cachedTokens: 0 }));
}

/** The requests without drafts and with them: equal bit for bit, logprobs included. Leaves the second engine open. */
async function same(requests: readonly Asked[], options: TestEngineOptions): Promise<Collected[]> {
  const plain = await answers(requests, options);
  expect(engine.engine.load().counters).toMatchObject({ draftTokens: 0, acceptedTokens: 0 });
  await engine.close();
  const got = await answers(requests, { ...options, speculation: SPECULATION });
  expect(got).toEqual(plain);
  return got;
}

describe.each(MODELS)('with and without drafts: $name', ({ options, repeating, other }) => {
  /** Greedy and sampled, with all that depends on the tokens before: each must come out as without drafts. */
  const requests: readonly Asked[] = [
    { prompt: repeating, sampling: { maxTokens: 44, logprobs: 2 } },
    { prompt: repeating, sampling: { maxTokens: 50, promptLogprobs: 1 } },
    { prompt: other, sampling: { maxTokens: 30, temperature: 0.9, seed: [5, 6], logprobs: 1 } },
    { prompt: repeating, sampling: { maxTokens: 40, temperature: 0.3, topP: 0.9, seed: [1, 2] } },
    {
      prompt: repeating,
      sampling: { maxTokens: 40, repetitionPenalty: 1.02, presencePenalty: 0.3, frequencyPenalty: 0.1, logprobs: 0 },
    },
    { prompt: repeating, sampling: { maxTokens: 40, logitBias: [[2, -100]], temperature: 0.2, seed: [7, 7] } },
  ];

  test('a crowd of greedy and sampled requests, prompts beside decodes', async () => {
    await same(requests, { ...options, maxNumBatchedTokens: 40 });
    const { draftTokens, acceptedTokens, sampledTokens } = engine.engine.load().counters;
    expect(acceptedTokens).toBeGreaterThan(20);
    expect(draftTokens).toBeGreaterThanOrEqual(acceptedTokens);
    expect(sampledTokens).toBe(44 + 50 + 30 + 3 * 40);
    const steps = engine.engine.steps();
    expect(steps.some((s) => s.draftRows > 0 && s.prefillRows > 0)).toBe(true);
    // More drafts than one sequence may have: several in one step.
    expect(Math.max(...steps.map((s) => s.draftRows))).toBeGreaterThan(SPECULATION.drafts);
    const drafting = steps.filter((s) => s.draftRows > 0 && s.prefillRows === 0);
    expect(drafting.filter((s) => s.inFlight > 0).length).toBeGreaterThan(drafting.length / 2);
  });

  test('a stop id among right drafts, min_tokens, the last token, and the end of the context', async () => {
    const free = (await answers([{ prompt: repeating, sampling: { maxTokens: 60 } }], options))[0]!;
    await engine.close();
    // An id of the part that repeats itself, allowed to stop only there.
    const stop = free.tokens[50]!;
    const minTokens = 45;
    const [stopped, last, context] = await same(
      [
        { prompt: repeating, sampling: { maxTokens: 60, stopIds: [stop], minTokens } },
        { prompt: repeating, sampling: { maxTokens: 51 } },
        { prompt: repeating, sampling: { maxTokens: 500 } },
      ],
      { ...options, maxModelLen: repeating.length + 57 },
    );
    expect(stopped).toMatchObject({ finish: 'stop' });
    expect(stopped!.tokens.at(-1)).toBe(stop);
    expect(last).toMatchObject({ finish: 'length', tokens: { length: 51 } });
    expect(context).toMatchObject({ finish: 'length', tokens: { length: 57 } });
    expect(context!.tokens).toEqual(free.tokens.slice(0, 57));
    expect(engine.engine.load().counters.acceptedTokens).toBeGreaterThan(20);
    expect(engine.engine.load().usedBlocks).toBe(0);
  });

  test('preempted in a small pool, and answered from the prefix cache', async () => {
    const maxModelLen = repeating.length + 52;
    const crowd = [...requests, ...requests.slice(0, 2)];
    const numGpuBlocksOverride = Math.ceil(maxModelLen / 8) + 4;
    await same(crowd, { ...options, enablePrefixCaching: true, numGpuBlocksOverride, blockSize: 8, maxModelLen });
    const { preemptions, acceptedTokens, cachedTokens } = engine.engine.load().counters;
    expect(preemptions).toBeGreaterThan(0);
    expect(acceptedTokens).toBeGreaterThan(20);
    expect(cachedTokens).toBeGreaterThan(0);
  });
});
