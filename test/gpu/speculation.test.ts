import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SamplingParams } from '../../src/protocol/sampling.ts';
import { type Collected, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

const SPECULATION = { drafts: 4, lookup: { min: 2, max: 4 } };

interface Asked {
  readonly prompt: readonly number[];
  readonly sampling: Partial<SamplingParams>;
}

/** quire-pico goes on repeating itself when nothing stops it; this leads there, and the other does not. */
const repeating = reference.cases[4]!.input_ids;
const other = reference.cases[6]!.input_ids;

/** The same engine without drafts and with them. */
async function pair(options: TestEngineOptions): Promise<readonly [TestEngine, TestEngine]> {
  const all = { enablePrefixCaching: false, maxNumSeqs: 8, ...options };
  return [await TestEngine.create(all), await TestEngine.create({ ...all, speculation: SPECULATION })];
}

async function answers(engine: TestEngine, requests: readonly Asked[]): Promise<Collected[]> {
  const got = await Promise.all(requests.map(({ prompt, sampling }) => engine.one(prompt, sampling)));
  return got.map((each) => ({ ...each, cachedTokens: 0 }));
}

/** The answers of both, equal bit for bit, logprobs included. */
async function same([plain, drafting]: readonly [TestEngine, TestEngine], requests: readonly Asked[]) {
  const expected = await answers(plain, requests);
  expect(plain.engine.load().counters).toMatchObject({ draftTokens: 0, acceptedTokens: 0 });
  const got = await answers(drafting, requests);
  expect(got).toEqual(expected);
  return got;
}

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

describe('with and without drafts', () => {
  const maxModelLen = repeating.length + 57;
  let both: readonly [TestEngine, TestEngine];
  beforeAll(async () => {
    both = await pair({ maxModelLen, numGpuBlocksOverride: 128, maxNumBatchedTokens: 40 });
  });
  afterAll(() => Promise.all(both.map((engine) => engine.close())));

  test('a crowd of greedy and sampled requests, prompts beside decodes', async () => {
    await same(both, requests);
    const { engine } = both[1];
    const { draftTokens, acceptedTokens, sampledTokens } = engine.load().counters;
    expect(acceptedTokens).toBeGreaterThan(20);
    expect(draftTokens).toBeGreaterThanOrEqual(acceptedTokens);
    expect(sampledTokens).toBe(44 + 50 + 30 + 3 * 40);
    const steps = engine.steps();
    expect(steps.some((s) => s.draftRows > 0 && s.prefillRows > 0)).toBe(true);
    // More drafts than one sequence may have: several in one step.
    expect(Math.max(...steps.map((s) => s.draftRows))).toBeGreaterThan(SPECULATION.drafts);
    const drafting = steps.filter((s) => s.draftRows > 0 && s.prefillRows === 0);
    expect(drafting.filter((s) => s.inFlight > 0).length).toBeGreaterThan(drafting.length / 2);
  });

  test('a stop id among right drafts, min_tokens, the last token, and the end of the context', async () => {
    const [free] = await answers(both[0], [{ prompt: repeating, sampling: { maxTokens: 500 } }]);
    // An id of the part that repeats itself, allowed to stop only there.
    const stop = free!.tokens[50]!;
    const before = both[1].engine.load().counters.acceptedTokens;
    const [stopped, last, context] = await same(both, [
      { prompt: repeating, sampling: { maxTokens: 60, stopIds: [stop], minTokens: 45 } },
      { prompt: repeating, sampling: { maxTokens: 51 } },
      { prompt: repeating, sampling: { maxTokens: 500 } },
    ]);
    expect(stopped).toMatchObject({ finish: 'stop' });
    expect(stopped!.tokens.at(-1)).toBe(stop);
    expect(last).toMatchObject({ finish: 'length', tokens: { length: 51 } });
    expect(context).toMatchObject({ finish: 'length', tokens: { length: 57 } });
    expect(context!.tokens).toEqual(free!.tokens);
    expect(both[1].engine.load().counters.acceptedTokens).toBeGreaterThan(before + 20);
    expect(both[1].engine.load().usedBlocks).toBe(0);
  });
});

test('drafts of the preempted, and of those answered from the prefix cache', async () => {
  const maxModelLen = repeating.length + 52;
  const numGpuBlocksOverride = Math.ceil(maxModelLen / 8) + 4;
  const both = await pair({ enablePrefixCaching: true, numGpuBlocksOverride, blockSize: 8, maxModelLen });
  await same(both, [...requests, ...requests.slice(0, 2)]);
  const { preemptions, acceptedTokens, cachedTokens } = both[1].engine.load().counters;
  expect(preemptions).toBeGreaterThan(0);
  expect(acceptedTokens).toBeGreaterThan(20);
  expect(cachedTokens).toBeGreaterThan(0);
  await Promise.all(both.map((engine) => engine.close()));
});
