import { afterEach, describe, expect, test } from 'vitest';
import { type Collected, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

/** 32 prompts of many lengths and settings, greedy and sampled, with logprobs. */
const REQUESTS = Array.from({ length: 32 }, (_, i) => {
  const { input_ids } = reference.cases[i % reference.cases.length]!;
  return {
    prompt: [...input_ids.slice(0, Math.max(3, Math.min(70, input_ids.length) - (i % 5))), 40 + i],
    sampling: {
      maxTokens: 20,
      logprobs: 3,
      temperature: i % 2 === 0 ? 0 : 0.9,
      topK: i % 4 === 1 ? 40 : 0,
      topP: i % 4 === 3 ? 0.9 : 1,
      seed: [i, 7] as [number, number],
      repetitionPenalty: i % 3 === 0 ? 1.2 : 1,
      presencePenalty: i % 5 === 0 ? 0.5 : 0,
    },
  };
});

let engine: TestEngine;
afterEach(() => engine.close());

const LIMITS = { maxModelLen: 512, numGpuBlocksOverride: 1024 };

async function alone(): Promise<Collected[]> {
  engine = await TestEngine.create({ ...LIMITS, enablePrefixCaching: false });
  const out: Collected[] = [];
  for (const { prompt, sampling } of REQUESTS) out.push(await engine.one(prompt, sampling));
  const steps = engine.engine.steps();
  expect(Math.max(...steps.map((s) => s.decodeRows))).toBe(1);
  await engine.close();
  return out;
}
let expected: Promise<Collected[]> | undefined;

async function together(options: TestEngineOptions): Promise<Collected[]> {
  expected ??= alone();
  const one = await expected;
  engine = await TestEngine.create({ ...LIMITS, enablePrefixCaching: false, ...options });
  const got = await Promise.all(REQUESTS.map(({ prompt, sampling }) => engine.one(prompt, sampling)));
  for (const [i, c] of got.entries()) {
    // Requests that start alike find each other's blocks where caching is on; that alone may differ.
    expect({ i, ...c, cachedTokens: 0 }).toEqual({ i, ...one[i]!, cachedTokens: 0 });
  }
  return got;
}

describe('tokens and logprobs are bit for bit those of each request alone', () => {
  test('in a crowd of 32', async () => {
    await together({});
    const steps = engine.engine.steps();
    const decoding = steps.filter((s) => s.decodeRows > 0);
    expect(decoding.reduce((sum, s) => sum + s.decodeRows, 0) / decoding.length).toBeGreaterThan(8);
    expect(steps.some((s) => s.decodeRows === 32)).toBe(true);
    expect(steps.some((s) => s.decodeRows > 0 && s.prefillRows > 0)).toBe(true);
    const steady = decoding.filter((s) => s.prefillRows === 0).slice(3);
    expect(steady.filter((s) => s.inFlight > 0).length / steady.length).toBeGreaterThanOrEqual(0.9);
  });

  test('with prompts cut into other chunks', async () => {
    await together({ maxNumBatchedTokens: 48 });
    expect(Math.max(...engine.engine.steps().map((s) => s.rows))).toBe(48);
  });

  test('in a pool so small that sequences are preempted', async () => {
    await together({ numGpuBlocksOverride: 60 });
    expect(engine.engine.load().counters.preemptions).toBeGreaterThan(0);
  });

  test('with the free blocks in random order', async () => {
    const order = Uint32Array.from(
      { length: LIMITS.numGpuBlocksOverride },
      (_, i) => (i * 619 + 77) % LIMITS.numGpuBlocksOverride,
    );
    expect(new Set(order).size).toBe(order.length);
    await together({ freeOrder: order });
  });

  test('encoded step by step', async () => {
    await together({ enforceEager: true });
  });

  test('answered from the prefix cache', async () => {
    await together({ enablePrefixCaching: true });
    const before = engine.engine.load().counters;
    const one = await expected!;
    for (const i of [3, 4, 5]) {
      const { prompt, sampling } = REQUESTS[i]!;
      const again = await engine.one(prompt, sampling);
      expect(again.cachedTokens).toBe(Math.floor((prompt.length - 1) / 16) * 16);
      expect({ ...again, cachedTokens: 0 }).toEqual({ ...one[i]!, cachedTokens: 0 });
    }
    const after = engine.engine.load().counters;
    const computed = [3, 4, 5].map(
      (i) => REQUESTS[i]!.prompt.length - Math.floor((REQUESTS[i]!.prompt.length - 1) / 16) * 16,
    );
    expect(after.prefillRows - before.prefillRows).toBe(computed.reduce((a, b) => a + b, 0));
  });
});
