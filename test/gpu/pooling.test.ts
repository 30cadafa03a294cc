import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { readModelSpec } from '../../src/engine/model/read-spec.ts';
import type { Pooling, PoolingType } from '../../src/protocol/pooling.ts';
import { folderFiles } from '../support/folder-files.ts';
import { adapterFiles, mergedFiles, randomAdapter } from '../support/lora-adapter.ts';
import { WholeReference } from '../support/whole-reference.ts';
import { type Collected, oracle, PICO, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

const HIDDEN = 256;
const cpu = new WholeReference(PICO);
/** Of 1 to 70 tokens. */
const PROMPTS = Array.from({ length: 9 }, (_, i) => {
  const { input_ids } = reference.cases[i % reference.cases.length]!;
  return [...input_ids.slice(0, Math.min(69, input_ids.length) - i), 40 + i];
}).concat([[77]]);

const LIMITS: TestEngineOptions = { pools: true, maxModelLen: 256, numGpuBlocksOverride: 128 };

async function embed(engine: TestEngine, prompt: readonly number[], how: Partial<Pooling> = {}): Promise<Collected> {
  const pooling: Pooling = { type: 'LAST', normalize: false, dimensions: HIDDEN, ...how };
  const [choice] = await engine.generate(prompt, { maxTokens: 1 }, 1, undefined, undefined, { pooling });
  return choice!;
}

/** Computed once: it takes seconds. */
const rowsOf = new Map<readonly number[], Float64Array[]>();

function expected(prompt: readonly number[], type: PoolingType): Float64Array {
  const rows = rowsOf.get(prompt) ?? cpu.normed(prompt);
  rowsOf.set(prompt, rows);
  if (type === 'LAST') return rows.at(-1)!;
  return new Float64Array(HIDDEN).map((_, d) => rows.reduce((sum, row) => sum + row[d]!, 0) / rows.length);
}

/** Largest difference, as a part of the largest value. */
function difference(got: Float32Array, want: Float64Array): number {
  const largest = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
  return want.reduce((m, v, i) => Math.max(m, Math.abs(v - got[i]!)), 0) / largest;
}

describe.each([{ wide: false }, { wide: true }])('quire-pico for its embeddings, wide: $wide', ({ wide }) => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await TestEngine.create({ ...LIMITS, wide, enablePrefixCaching: false });
  });
  afterAll(() => engine.close());

  test.each(['LAST', 'MEAN'] as const)('%s is what float64 gives on the CPU', async (type) => {
    for (const prompt of [PROMPTS[0]!, PROMPTS[4]!, PROMPTS.at(-1)!]) {
      const got = await embed(engine, prompt, { type });
      expect(got).toMatchObject({ tokens: [], finish: 'length' });
      expect(got.embedding!.length).toBe(HIDDEN);
      expect(difference(got.embedding!, expected(prompt, type))).toBeLessThan(2e-4);
    }
    // The two differ: a test that pools the one way for the other would fail.
    const other = expected(PROMPTS[0]!, type === 'LAST' ? 'MEAN' : 'LAST');
    expect(difference((await embed(engine, PROMPTS[0]!, { type })).embedding!, other)).toBeGreaterThan(0.05);
  });

  test('cut and normalized', async () => {
    const got = (await embed(engine, PROMPTS[1]!, { type: 'MEAN', normalize: true, dimensions: 100 })).embedding!;
    const want = expected(PROMPTS[1]!, 'MEAN').subarray(0, 100);
    const length = Math.hypot(...want);
    expect(
      difference(
        got,
        want.map((v) => v / length),
      ),
    ).toBeLessThan(2e-4);
    expect(Math.abs(Math.hypot(...got) - 1)).toBeLessThan(1e-6);
  });
});

describe('embeddings are bit for bit those of each prompt alone', () => {
  const JOBS = PROMPTS.flatMap((prompt) => (['LAST', 'MEAN'] as const).map((type) => ({ prompt, type })));
  let engine: TestEngine;
  afterEach(() => engine.close());

  async function alone(): Promise<Float32Array[]> {
    engine = await TestEngine.create({ ...LIMITS, enablePrefixCaching: false });
    const all: Float32Array[] = [];
    for (const { prompt, type } of JOBS) all.push((await embed(engine, prompt, { type })).embedding!);
    // Each prompt was one step of its own.
    expect(engine.engine.steps().map(({ rows }) => rows)).toEqual(JOBS.map(({ prompt }) => prompt.length));
    await engine.close();
    return all;
  }
  let known: Promise<Float32Array[]> | undefined;

  async function together(options: TestEngineOptions): Promise<void> {
    known ??= alone();
    const one = await known;
    engine = await TestEngine.create({ ...LIMITS, enablePrefixCaching: false, ...options });
    const got = await Promise.all(JOBS.map(({ prompt, type }) => embed(engine, prompt, { type })));
    for (const [i, { embedding }] of got.entries()) expect({ i, embedding }).toEqual({ i, embedding: one[i] });
    const { steps, rows, decodeRows, sampledTokens } = engine.engine.load().counters;
    expect({ decodeRows, sampledTokens }).toEqual({ decodeRows: 0, sampledTokens: 0 });
    // Many prompts a step.
    expect(rows / steps).toBeGreaterThan(1.5 * (options.maxNumBatchedTokens ? 12 : 69));
  }

  test('in a crowd', async () => {
    await together({});
    expect(Math.max(...engine.engine.steps().map((s) => s.rows))).toBe(128);
  });

  test('cut into chunks of 33 rows at most', async () => {
    await together({ maxNumBatchedTokens: 33 });
    expect(Math.max(...engine.engine.steps().map((s) => s.rows))).toBe(33);
  });

  test('with the prefix cache, which LAST reads and MEAN fills', async () => {
    known ??= alone();
    const one = await known;
    engine = await TestEngine.create({ ...LIMITS });
    const cached: number[] = [];
    for (const [i, { prompt, type }] of [...JOBS.entries()].reverse()) {
      const got = await embed(engine, prompt, { type });
      expect({ i, embedding: got.embedding }).toEqual({ i, embedding: one[i] });
      cached[i] = got.cachedTokens;
    }
    for (const [i, { prompt, type }] of JOBS.entries()) {
      // MEAN came before LAST of each prompt.
      const whole = Math.floor((prompt.length - 1) / 16) * 16;
      expect(cached[i]).toBe(type === 'LAST' ? whole : 0);
    }
  });
});

describe('of other models', () => {
  const SMALL: TestEngineOptions = { pools: true, numGpuBlocksOverride: 64, maxNumSeqs: 4 };
  const IDS = Array.from({ length: 45 }, (_, i) => (i * 31 + 7) % 90);
  let engine: TestEngine;
  afterEach(() => engine.close());

  test.each(['llama', 'gemma3'])('%s: what float64 gives, and no head on the GPU', async (name) => {
    const other = new WholeReference(oracle(name));
    const dimensions = other.spec.hiddenSize;
    engine = await TestEngine.create({ ...SMALL, folder: oracle(name) });
    expect(engine.buffersOf.has('lmHead')).toBe(false);
    const rows = other.normed(IDS);
    const last = await embed(engine, IDS, { dimensions });
    expect(difference(last.embedding!, rows.at(-1)!)).toBeLessThan(5e-4);
    const mean = await embed(engine, IDS, { dimensions, type: 'MEAN' });
    const wanted = rows.reduce((sum, row) => sum.map((value, d) => value + row[d]!)).map((value) => value / IDS.length);
    expect(difference(mean.embedding!, wanted)).toBeLessThan(5e-4);
  });

  test('through a LoRA adapter: what weights with its product added to them give, beside prompts that go through none', async () => {
    const folder = oracle('qwen3');
    const adapter = randomAdapter(await readModelSpec(folderFiles(folder)), { seed: 1 });
    const spec = await readModelSpec(folderFiles(folder), true);
    const pooling: Pooling = { type: 'MEAN', normalize: true, dimensions: spec.hiddenSize };
    const ask = async (from: TestEngine, loraName?: string) =>
      (await from.generate(IDS, { maxTokens: 1 }, 1, undefined, loraName, { pooling }))[0]!.embedding!;
    engine = await TestEngine.create({ ...SMALL, files: mergedFiles(folder, adapter) });
    const merged = await ask(engine);
    await engine.close();
    engine = await TestEngine.create({ ...SMALL, folder, maxLoras: 2, maxLoraRank: 8 });
    const plain = await ask(engine);
    await engine.engine.loras!.load('tuned', adapterFiles(adapter));
    const [beside, tuned] = await Promise.all([ask(engine), ask(engine, 'tuned')]);
    expect(beside).toEqual(plain);
    expect(engine.engine.steps().some(({ loraRows, rows }) => loraRows > 0 && loraRows < rows)).toBe(true);
    expect(difference(tuned, Float64Array.from(merged))).toBeLessThan(2e-3);
    expect(difference(plain, Float64Array.from(merged))).toBeGreaterThan(0.02);
  });

  test('after sleep, bit for bit as before', async () => {
    engine = await TestEngine.create({ ...SMALL, folder: oracle('qwen3') });
    const { hiddenSize } = engine.engine.info;
    const ask = async () => (await embed(engine, IDS, { type: 'MEAN', dimensions: hiddenSize })).embedding;
    const before = await ask();
    const { wake } = await engine.sleep(1);
    await wake();
    expect(await ask()).toEqual(before);
  });
});

test('a cancelled prompt is computed no further, and its blocks are free', async () => {
  const engine = await TestEngine.create({ ...LIMITS, maxNumBatchedTokens: 33, enablePrefixCaching: false });
  try {
    const long = Array.from({ length: 250 }, (_, i) => i + 3);
    const pooling: Pooling = { type: 'MEAN', normalize: false, dimensions: HIDDEN };
    void engine.generate(long, { maxTokens: 1 }, 1, 'gone', undefined, { pooling });
    await new Promise((resolve) => setTimeout(resolve, 1));
    engine.engine.cancel('gone');
    const after = await embed(engine, PROMPTS[2]!, { type: 'MEAN' });
    expect(difference(after.embedding!, expected(PROMPTS[2]!, 'MEAN'))).toBeLessThan(2e-4);
    const { running, waiting, usedBlocks, counters } = engine.engine.load();
    expect({ running, waiting, usedBlocks }).toEqual({ running: 0, waiting: 0, usedBlocks: 0 });
    expect(counters.rows).toBeLessThan(250 + PROMPTS[2]!.length);
  } finally {
    await engine.close();
  }
});
