import { describe, expect, test } from 'vitest';
import { readModelSpec } from '../../src/engine/model/read-spec.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { folderFiles } from '../support/folder-files.ts';
import { type AdapterWish, adapterFiles, mergedFiles, randomAdapter } from '../support/lora-adapter.ts';
import { type Collected, oracle, TestEngine, type TestEngineOptions } from './test-engine.ts';

const SMALL = { numGpuBlocksOverride: 128, maxNumSeqs: 8, maxLoras: 3, maxLoraRank: 8 } as const;
const PROMPT = Array.from({ length: 45 }, (_, i) => (i * 31 + 7) % 90);
const SCORED = { maxTokens: 6, logprobs: 5, promptLogprobs: 0 };
const GONE = { request: 'gone', prompt: PROMPT, choices: [{ choice: 0, generated: [] }], sampling: GREEDY };
/** As for the oracles: sums in another order, over a few layers. */
const TOLERANCE = 2e-3;

async function adapterFor(folder: string, wish: AdapterWish) {
  return randomAdapter(await readModelSpec(folderFiles(folder)), wish);
}

function promptLogprobs({ promptLogprobs: logprobs }: Collected): number[] {
  return logprobs!.slice(1).map((each) => each!.logprob);
}

function furthest(one: readonly number[], other: readonly number[]): number {
  return Math.max(...one.map((x, i) => Math.abs(x - other[i]!)));
}

describe.each([
  ['qwen3', { seed: 1 }],
  ['llama', { seed: 2, rank: 8, dtype: 'BF16' }],
  ['qwen2', { seed: 3, targets: ['q_proj', 'v_proj'], dtype: 'F16' }],
  ['phi3', { seed: 4, rank: 3 }],
  ['gemma3', { seed: 5, size: 0.1, targets: ['k_proj', 'gate_proj', 'o_proj', 'up_proj'] }],
  ['qwen3-moe', { seed: 6, targets: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] }],
] as const)('an adapter of %s', (name, wish) => {
  test('gives what weights with its product added to them give', async () => {
    const adapter = await adapterFor(oracle(name), wish);
    const merged = await TestEngine.create({ ...SMALL, maxLoras: 0, files: mergedFiles(oracle(name), adapter) });
    const expected = await merged.one(PROMPT, SCORED);
    await merged.close();

    const engine = await TestEngine.create({ ...SMALL, folder: oracle(name) });
    await engine.engine.loras!.load('tuned', adapterFiles(adapter, [1000, 7, 4096]));
    const plain = await engine.one(PROMPT, SCORED);
    const got = await engine.one(PROMPT, SCORED, 'tuned');
    await engine.close();
    expect(furthest(promptLogprobs(got), promptLogprobs(expected))).toBeLessThan(TOLERANCE);
    expect(furthest(promptLogprobs(plain), promptLogprobs(expected))).toBeGreaterThan(50 * TOLERANCE);
    expect(got.tokens).toEqual(expected.tokens);
  });
});

test('the same where the weights are in parts, bit for bit', async () => {
  const folder = oracle('gemma3');
  const answer = async (options: TestEngineOptions) => {
    const engine = await TestEngine.create({ ...SMALL, folder, ...options });
    await engine.engine.loras!.load('tuned', adapterFiles(await adapterFor(folder, { seed: 7, size: 0.1 })));
    const said = await engine.one(PROMPT, SCORED, 'tuned');
    await engine.close();
    return { said, parts: engine.buffersOf.get('gateUp')! };
  };
  const [whole, split] = [await answer({}), await answer({ maxBufferBytes: 4096 })];
  expect(split.parts).toBeGreaterThan(whole.parts);
  expect(split.said).toEqual(whole.said);
});

describe('adapters beside each other in one batch', () => {
  const folder = oracle('qwen3');
  const wishes = { one: { seed: 11, rank: 8 }, two: { seed: 12, rank: 2, targets: ['v_proj', 'down_proj'] } };
  const names = [undefined, 'one', 'two', undefined, 'one'];
  const requests = names.map((name, i) => ({
    name,
    prompt: [...PROMPT.slice(0, 9 + 7 * i), 60 + i],
    sampling: { maxTokens: 12, logprobs: 3, temperature: i % 2 === 0 ? 0 : 0.8, seed: [i, 1] as [number, number] },
  }));
  const create = async (options: TestEngineOptions = {}) => {
    const engine = await TestEngine.create({ ...SMALL, enablePrefixCaching: false, folder, ...options });
    for (const [name, wish] of Object.entries(wishes))
      await engine.engine.loras?.load(name, adapterFiles(await adapterFor(folder, wish)));
    return engine;
  };
  let alone: Promise<Collected[]> | undefined;
  const each = async () => {
    const engine = await create();
    const out: Collected[] = [];
    for (const { prompt, sampling, name } of requests) out.push(await engine.one(prompt, sampling, name));
    expect(engine.engine.steps().some(({ loras }) => loras > 1)).toBe(false);
    await engine.close();
    return out;
  };

  test.each([{}, { maxNumBatchedTokens: 24 }, { enforceEager: true }])(
    'give bit for bit what each gives alone: %o',
    async (options) => {
      alone ??= each();
      const engine = await create(options);
      const got = await Promise.all(requests.map(({ prompt, sampling, name }) => engine.one(prompt, sampling, name)));
      expect(got).toEqual(await alone);
      const mixed = engine.engine.steps().filter(({ loras, loraRows, rows }) => loras === 2 && loraRows < rows);
      expect(mixed.some(({ decodeRows }) => decodeRows === requests.length)).toBe(true);
      expect(mixed.some(({ prefillRows }) => prefillRows > 1)).toBe(true);
      await engine.close();
    },
  );

  test('change nothing for rows without one, and nothing in steps of such rows alone', async () => {
    alone ??= each();
    const [never, beside] = [await create({ maxLoras: 0 }), await create()];
    const { prompt, sampling } = requests[3]!;
    const expected = await never.one(prompt, sampling);
    expect((await alone)[3]).toEqual(expected);
    expect(await beside.one(prompt, sampling)).toEqual(expected);
    const dispatches = (engine: TestEngine) => engine.engine.steps().map((step) => step.dispatches);
    expect(dispatches(beside)).toEqual(dispatches(never));
    await Promise.all([never.close(), beside.close()]);
  });

  test('come and go while others run: who has one keeps it to the end, and its memory goes with the last', async () => {
    const engine = await create({ enablePrefixCaching: true });
    const loras = engine.engine.loras!;
    const { prompt } = requests[4]!;
    const long = { maxTokens: 60 };
    const expected = await engine.one(prompt, long, 'one');
    const neighbour = engine.one([...prompt, 3], long);
    const running = engine.generate(prompt, long, 1, 'running', 'one');
    while (engine.tokensOf('running') < 5) await new Promise((resolve) => setTimeout(resolve, 1));
    const unloaded = loras.unload('one');
    expect(() => engine.engine.add({ ...GONE, loraName: 'one' })).toThrow('has no LoRA adapter one');
    const again = loras.load('one', adapterFiles(await adapterFor(folder, wishes.two)));
    expect((await running)[0]).toEqual({ ...expected, cachedTokens: 32 });
    await Promise.all([unloaded, again]);
    // The same name, another adapter: nothing of the first is hit, and the answer is that of the other.
    const [other, two] = await Promise.all([engine.one(prompt, long, 'one'), engine.one(prompt, long, 'two')]);
    expect([other.cachedTokens, other.tokens]).toEqual([0, two.tokens]);
    expect(other.tokens).not.toEqual(expected.tokens);
    await Promise.all([loras.unload('one'), loras.unload('two'), neighbour]);
    const left = engine.engine.snapshot().blocks.map(({ loraName }) => loraName);
    expect(new Set(left)).toEqual(new Set([undefined]));
    // With buffers of its own again, which the programs of before must not bind.
    await loras.load('late', adapterFiles(await adapterFor(folder, wishes.one)));
    expect((await engine.one(prompt, long, 'late')).tokens).toEqual(expected.tokens);
    await engine.close();
  });
});
