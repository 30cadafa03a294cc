import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readEmbeds } from '../../src/frontend/embeds/read-embeds.ts';
import { toBase64 } from '../../src/protocol/base64.ts';
import type { GenerateRequest } from '../../src/protocol/generate.ts';
import { NO_ID } from '../../src/protocol/prompt-embeds.ts';
import { GREEDY, type SamplingParams } from '../../src/protocol/sampling.ts';
import { embeddingRows, floatBytes } from '../support/embedding-rows.ts';
import { torchFile } from '../support/torch-file.ts';
import { type Collected, oracle, PICO, reference, TestEngine } from './test-engine.ts';

/** A prompt as a client sends it whose embeddings are those of the ids, each times `scale`: read from the file that it saved. */
function embedded(
  folder: string,
  ids: readonly number[],
  dtype: 'f32' | 'bf16' = 'f32',
  scale = 1,
): Pick<GenerateRequest, 'prompt' | 'embeds'> {
  const { hidden, rows } = embeddingRows(folder, ids);
  const data = floatBytes(scale === 1 ? rows : rows.map((x) => Math.fround(x * scale)), dtype);
  const file = torchFile({ dtype, shape: [1, ids.length, hidden], data });
  const { tokens, bytes } = readEmbeds(Buffer.from(file).toString('base64'), 'prompt_embeds', hidden);
  expect(tokens).toBe(ids.length);
  return { prompt: new Array<number>(tokens).fill(NO_ID), embeds: { dtype, data: toBase64(bytes) } };
}

const ask = (
  engine: TestEngine,
  { prompt, ...more }: Partial<GenerateRequest> & Pick<GenerateRequest, 'prompt'>,
  sampling: Partial<SamplingParams>,
  n = 1,
): Promise<Collected[]> => engine.generate(prompt, sampling, n, undefined, undefined, more);

const CASES = reference.cases.filter(({ input_ids }) => input_ids.length > 20 && input_ids.length < 100).slice(0, 2);
const SAMPLING = { maxTokens: 12, logprobs: 3, stopIds: [] };

describe('embeddings of tokens give what the tokens give, bit for bit', () => {
  let engine: TestEngine;
  beforeAll(async () => {
    // Prompts come in several chunks.
    engine = await TestEngine.create({
      maxNumBatchedTokens: 16,
      maxNumSeqs: 8,
      maxModelLen: 512,
      numGpuBlocksOverride: 96,
    });
  });
  afterAll(() => engine.close());

  test.each(['f32', 'bf16'] as const)('quire-pico, %s: the reference answer, beside requests of ids', async (dtype) => {
    expect(CASES).toHaveLength(2);
    const [one, two] = CASES as [(typeof CASES)[0], (typeof CASES)[0]];
    const plain = await engine.one(one.input_ids, SAMPLING);
    expect(plain.tokens).toEqual(one.output_ids.slice(0, SAMPLING.maxTokens));
    const steps = engine.engine.load().counters.steps;
    const [[got], [neighbour], choices] = await Promise.all([
      ask(engine, embedded(PICO, one.input_ids, dtype), SAMPLING),
      engine.generate(two.input_ids, SAMPLING),
      ask(engine, embedded(PICO, one.input_ids, dtype), { ...SAMPLING, temperature: 0 }, 2),
    ]);
    for (const each of [got!, ...choices]) {
      expect(each.tokens).toEqual(plain.tokens);
      expect(each.logprobs).toEqual(plain.logprobs);
      // The ids' blocks are in the cache, and are not those of this prompt.
      expect(each.cachedTokens).toBe(0);
    }
    expect(neighbour!.tokens).toEqual(two.output_ids.slice(0, SAMPLING.maxTokens));
    const made = engine.engine.steps().filter(({ step }) => step >= steps);
    expect(made.some(({ rows, decodeRows }) => decodeRows > 0 && rows > decodeRows)).toBe(true);
  });

  test('no KV event tells of them, and none of their blocks is kept', async () => {
    const ids = CASES[0]!.input_ids;
    engine.engine.resetPrefixCache();
    const before = engine.events.length;
    for (const _ of [1, 2]) {
      const [got] = await ask(engine, embedded(PICO, ids), SAMPLING);
      expect(got!.cachedTokens).toBe(0);
    }
    expect(engine.events.slice(before)).toEqual([]);
    expect([...engine.engine.blockMap()].every((state) => state === 0)).toBe(true);
  });

  test('G2: what an earlier attempt gave is gone on from', async () => {
    const { input_ids: ids, output_ids: said } = CASES[0]!;
    const begun = said.slice(0, 5);
    const request = {
      request: 'second attempt',
      ...embedded(PICO, ids),
      choices: [{ choice: 0, generated: begun }],
      sampling: { ...GREEDY, maxTokens: 12 },
    };
    const rest: number[] = [];
    await new Promise<void>((resolve) => {
      engine.tookOther = ({ tokens, finish }) => {
        rest.push(...tokens);
        if (finish) resolve();
      };
      engine.engine.add(request);
    });
    expect(rest).toEqual(said.slice(5, 12));
  });

  test('penalties know no ids of the prompt', async () => {
    const known = reference.cases
      .filter(({ input_ids, output_ids }) => input_ids.includes(output_ids[0]!))
      .sort((a, b) => a.input_ids.length - b.input_ids.length)[0]!;
    const sampling = { maxTokens: 1, repetitionPenalty: 100, stopIds: [] };
    const [got] = await ask(engine, embedded(PICO, known.input_ids), sampling);
    expect(got!.tokens).toEqual([known.output_ids[0]]);
    expect((await engine.one(known.input_ids, sampling)).tokens).not.toEqual(got!.tokens);
  });

  test('what does not fit the model is refused, and KV of them goes nowhere', () => {
    const request = {
      ...embedded(PICO, [5, 6, 7]),
      request: 'refused',
      choices: [{ choice: 0, generated: [] }],
      sampling: GREEDY,
    };
    const { embeds, prompt } = request;
    const refused = (change: Partial<GenerateRequest>, why: RegExp) =>
      expect(() => engine.engine.add({ ...request, ...change })).toThrow(why);
    refused({ prompt: [...prompt, NO_ID] }, /3072 bytes, and 4 tokens of 256 values in f32 are 4096/);
    refused({ prompt: [5, NO_ID, NO_ID] }, /token ids beside them/);
    refused({ embeds: { dtype: 'f32', data: 'AA?=' } }, /not base64/);
    refused({ embeds: { ...embeds!, dtype: 'bf16' } }, /in bf16 are 1536/);
    expect(() => engine.engine.prefill(request)).toThrow(/computed where it is answered/);
    expect(() => engine.engine.reserve(request)).toThrow(/computed where it is answered/);
  });
});

test('a sequence that is preempted begins with its embeddings again', async () => {
  const ids = CASES[0]!.input_ids;
  const blocks = Math.ceil((ids.length + 40) / 16);
  const engine = await TestEngine.create({
    ...{ maxNumBatchedTokens: 32, maxNumSeqs: 4, maxModelLen: 128, enablePrefixCaching: false },
    numGpuBlocksOverride: 2 * blocks - 1,
  });
  const sampling = { maxTokens: 40, stopIds: [], logprobs: 2 };
  const plain = await engine.one(ids, sampling);
  const request = embedded(PICO, ids);
  const [[first], [second]] = await Promise.all([ask(engine, request, sampling), ask(engine, request, sampling)]);
  expect(engine.engine.load().counters.preemptions).toBeGreaterThan(0);
  await engine.close();
  for (const each of [first!, second!]) {
    expect(each.tokens).toEqual(plain.tokens);
    expect(each.logprobs).toEqual(plain.logprobs);
  }
});

test.each([
  ['in one buffer', {}],
  ['in parts', { maxBufferBytes: 4096 }],
])(
  'gemma3, its table %s: embeddings are taken as they are, with the scale that it gives its own',
  async (_, options) => {
    const folder = oracle('gemma3');
    const ids = Array.from({ length: 21 }, (_, i) => (i * 31 + 7) % 90);
    const engine = await TestEngine.create({ folder, numGpuBlocksOverride: 64, maxNumSeqs: 4, ...options });
    const plain = await engine.one(ids, SAMPLING);
    const { hidden } = embeddingRows(folder, [0]);
    const [scaled] = await ask(engine, embedded(folder, ids, 'f32', Math.fround(Math.sqrt(hidden))), SAMPLING);
    const [bare] = await ask(engine, embedded(folder, ids), SAMPLING);
    const parts = engine.buffersOf.get('embed')!;
    await engine.close();
    expect(parts > 1).toBe('maxBufferBytes' in options);
    expect(scaled!.tokens).toEqual(plain.tokens);
    expect(scaled!.logprobs).toEqual(plain.logprobs);
    expect(bare!.logprobs).not.toEqual(plain.logprobs);
  },
);
