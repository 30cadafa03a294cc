import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { convertFolder } from '../support/convert-gguf.ts';
import { memoryFiles } from '../support/folder-files.ts';
import { ggufFile } from '../support/gguf-file.ts';
import { oracle, PICO, TestEngine, type TestEngineOptions } from './test-engine.ts';

const DENSE = ['embed', 'qkv', 'oProj', 'gateUp', 'down'] as const;
const EXPERTS = ['embed', 'qkv', 'oProj', 'expertGateUp', 'expertDown', 'lmHead'] as const;

/** Everything that a model says, bit for bit, and in how many buffers its weights are. The self-test passes too: engines are made by it. */
async function answers(options: TestEngineOptions, prompts: readonly number[][]) {
  const engine = await TestEngine.create({ ...options, numGpuBlocksOverride: 128, maxNumSeqs: 8 });
  const all = await Promise.all(
    prompts.map((p) => engine.one(p, { maxTokens: 6, logprobs: 5, promptLogprobs: 0, temperature: 0 })),
  );
  expect(engine.engine.steps().some((step) => step.decodeRows > 1)).toBe(true);
  await engine.close();
  return { said: all.map(({ tokens, logprobs, promptLogprobs }) => ({ tokens, logprobs, promptLogprobs })), engine };
}

async function expectSame(
  options: TestEngineOptions,
  maxBufferBytes: number,
  roles: readonly string[],
  prompts: number[][],
) {
  const whole = await answers(options, prompts);
  const split = await answers({ ...options, maxBufferBytes }, prompts);
  expect(split.said).toEqual(whole.said);
  const several = [...split.engine.buffersOf].filter(([role, n]) => n > (whole.engine.buffersOf.get(role) ?? 0));
  expect(several.map(([role]) => role)).toEqual(expect.arrayContaining([...roles]));
}

describe('a model whose weights are in parts says the same, bit for bit', () => {
  test.each([
    ['llama', 4096, [...DENSE, 'lmHead']],
    ['llama-tied-bf16', 4096, DENSE],
    // With biases of q, k and v.
    ['qwen2', 4096, DENSE],
    // With norms of what the branches give.
    ['gemma3', 4096, DENSE],
    ['phi3', 4096, [...DENSE, 'lmHead']],
    ['qwen3-moe', 8192, EXPERTS],
  ])('%s', async (name, limit, roles) => {
    const { cases } = JSON.parse(readFileSync(`${oracle(name)}/expected.json`, 'utf8')) as {
      cases: { input_ids: number[] }[];
    };
    await expectSame(
      { folder: oracle(name) },
      limit,
      roles,
      cases.map((c) => c.input_ids),
    );
  });

  const PROMPTS = [
    [1, 301, 207, 1541, 409, 538, 39, 2, 207, 1, 300, 207],
    Array.from({ length: 20 }, (_, i) => (i * 37 + 3) % 2600),
  ];
  test.each(['none', 'int8', 'int4'] as const)('quire-pico, --quantization %s', async (quantization) => {
    await expectSame({ folder: PICO, quantization, kvCacheDtype: 'f16' }, 30_000, DENSE, PROMPTS);
  });

  test('a GGUF file whose q, k and v are of several types', async () => {
    const parts = convertFolder(PICO, (name) => (/attn_v|token_embd/.test(name) ? 'Q6_K' : 'Q4_0'));
    const files = memoryFiles({ 'model.gguf': ggufFile(parts) });
    await expectSame({ files }, 30_000, DENSE, PROMPTS);
  });
});
