import { afterEach, describe, expect, test } from 'vitest';
import { openDawn } from './dawn.ts';
import { type Collected, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

const EOS = [2, 0];

const open: TestEngine[] = [];
afterEach(async () => {
  for (const engine of open.splice(0)) await engine.close();
});

async function engineOf(options: TestEngineOptions): Promise<TestEngine> {
  const engine = await TestEngine.create(options);
  open.push(engine);
  return engine;
}

test('a pool of int8 has at least 1.9 times the blocks of one of f16, in another numerics class', async () => {
  // What is left of the memory decides, not what the sequences could use at most.
  const room = { numGpuBlocksOverride: null, maxModelLen: 2048, maxNumSeqs: 63, maxNumBatchedTokens: 64 };
  const { device } = await openDawn();
  const gpuMemoryUtilization = (64 * 2 ** 20) / device.limits.maxBufferSize;
  device.destroy();
  const of = async (kvCacheDtype: 'f16' | 'int8') =>
    (await engineOf({ ...room, kvCacheDtype, gpuMemoryUtilization })).engine.info;
  const [f16, int8] = [await of('f16'), await of('int8')];
  expect(int8.totalBlocks).toBeLessThan(63 * 128);
  expect(f16.totalBlocks).toBeGreaterThan(100);
  expect(int8.totalBlocks / f16.totalBlocks).toBeGreaterThanOrEqual(1.9);
  expect(int8.layerBlockBytes).toBe(16 * 2 * (64 + 2));
  expect(int8.kvCacheDtype).toBe('int8');
  expect(int8.numericsId).not.toBe(f16.numericsId);
});

test('texts are those of f16, and logprobs within 0.1: of all generated tokens, and of nearly all others', async () => {
  const answers = async (kvCacheDtype: 'f16' | 'int8') => {
    const engine = await engineOf({ kvCacheDtype });
    return Promise.all(
      reference.cases.map(({ input_ids, output_ids }) =>
        engine.one(input_ids, { maxTokens: output_ids.length, stopIds: EOS, logprobs: 5, promptLogprobs: 0 }),
      ),
    );
  };
  const [f16, int8] = [await answers('f16'), await answers('int8')];
  const others: number[] = [];
  for (const [i, want] of f16.entries()) {
    const got = int8[i]!;
    expect(got.tokens).toEqual(want.tokens);
    for (const [step, { logprob }] of want.logprobs.entries())
      expect(Math.abs(got.logprobs[step]!.logprob - logprob)).toBeLessThan(0.1);
    for (const [at, each] of want.promptLogprobs!.entries())
      if (each) others.push(Math.abs(got.promptLogprobs![at]!.logprob - each.logprob));
  }
  expect(others.filter((x) => x < 0.1).length / others.length).toBeGreaterThan(0.9);
  // It is another cache indeed.
  expect(others.filter((x) => x > 0).length).toBeGreaterThan(100);
});

describe('tokens and logprobs of int8 are bit for bit those of each request alone', () => {
  const LIMITS = { kvCacheDtype: 'int8', maxModelLen: 256, numGpuBlocksOverride: 256 } as const;
  const text = reference.cases.flatMap(({ input_ids }) => input_ids);
  const requests = Array.from({ length: 8 }, (_, i) => ({
    prompt: [...text.slice(i * 40, i * 40 + 60 - i), 40 + i],
    sampling: { maxTokens: 16, logprobs: 3, temperature: i % 2 && 0.9, seed: [i, 7] as [number, number] },
  }));
  let known: Promise<Collected[]> | undefined;
  const alone = async () => {
    const engine = await engineOf({ ...LIMITS, enablePrefixCaching: false });
    const out: Collected[] = [];
    for (const { prompt, sampling } of requests) out.push(await engine.one(prompt, sampling));
    return out;
  };
  const together = async (options: TestEngineOptions) => {
    known ??= alone();
    const expected = await known;
    const engine = await engineOf({ ...LIMITS, ...options });
    const got = await Promise.all(requests.map(({ prompt, sampling }) => engine.one(prompt, sampling)));
    got.forEach((each, i) => {
      expect({ i, ...each, cachedTokens: 0 }).toEqual({ i, ...expected[i]!, cachedTokens: 0 });
    });
    return { engine, expected };
  };

  test('in a crowd, with prompts in other chunks and blocks in another order', async () => {
    const freeOrder = Uint32Array.from({ length: 256 }, (_, i) => (i * 61 + 9) % 256);
    const { engine } = await together({ maxNumBatchedTokens: 40, freeOrder, enablePrefixCaching: false });
    expect(engine.engine.steps().some((s) => s.decodeRows > 1 && s.prefillRows > 0)).toBe(true);
  });

  test('when sequences are preempted', async () => {
    const { engine } = await together({ numGpuBlocksOverride: 18, enablePrefixCaching: false });
    expect(engine.engine.load().counters.preemptions).toBeGreaterThan(0);
  });

  test('from the prefix cache, and computed again once their blocks were evicted', async () => {
    const { engine, expected } = await together({ numGpuBlocksOverride: 64 });
    const ask = async () => ({ ...(await engine.one(requests[0]!.prompt, requests[0]!.sampling)) });
    await ask();
    expect(await ask()).toEqual({ ...expected[0]!, cachedTokens: 48 });
    for (let i = 0; i < 5; i++)
      await engine.one(
        Array.from({ length: 250 }, (_, at) => 50 + ((at * 7 + i) % 900)),
        { maxTokens: 1 },
      );
    expect(engine.events.some(({ type }) => type === 'removed')).toBe(true);
    expect(await ask()).toEqual({ ...expected[0]!, cachedTokens: 0 });
  });
});
