import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { ModelFiles } from '../../src/engine/files/source.ts';
import { convertFolder } from '../support/convert-gguf.ts';
import { memoryFiles } from '../support/folder-files.ts';
import { decode, encode, type StoredType } from '../support/ggml-types.ts';
import { GGML_TYPE, type GgufParts, ggufFile } from '../support/gguf-file.ts';
import { oracle, TestEngine } from './test-engine.ts';

interface OracleCase {
  input_ids: number[];
  logprobs: number[];
  greedy: number[];
  greedy_margins: number[];
}
const TIE = 4e-3;

const PICO = new URL('../../models/quire-pico', import.meta.url).pathname;
/** Cut at sizes that split blocks, words and the header. */
const CHUNKS = [9973, 100_003, 7];
const filesOf = (parts: GgufParts): ModelFiles => memoryFiles({ 'model.gguf': ggufFile(parts) }, CHUNKS);

/** Everything a model says to some prompts: tokens, logprobs of prompt and answer, bit for bit. */
async function answers(files: ModelFiles | string, prompts: readonly number[][], maxTokens: number) {
  const engine = await TestEngine.create({
    ...(typeof files === 'string' ? { folder: files } : { files }),
    numGpuBlocksOverride: 128,
    maxNumSeqs: 8,
  });
  const all = await Promise.all(prompts.map((p) => engine.one(p, { maxTokens, logprobs: 3, promptLogprobs: 0 })));
  const { numericsId } = engine.engine.info;
  await engine.close();
  return {
    answers: all.map(({ tokens, logprobs, promptLogprobs }) => ({ tokens, logprobs, promptLogprobs })),
    numericsId,
  };
}

const casesOf = (name: string) =>
  (JSON.parse(readFileSync(`${oracle(name)}/expected.json`, 'utf8')) as { cases: OracleCase[] }).cases;

describe('F32 GGUF files', () => {
  test.each(['llama', 'qwen2', 'qwen3', 'mistral', 'gemma3', 'phi3', 'qwen3-moe'])('%s', async (name) => {
    const cases = casesOf(name);
    const prompts = cases.map((c) => c.input_ids);
    const length = cases[0]!.greedy.length;
    const found = await answers(filesOf(convertFolder(oracle(name), () => 'F32')), prompts, length);
    for (const [n, c] of cases.entries()) {
      const { tokens, promptLogprobs } = found.answers[n]!;
      for (const [i, logprob] of c.logprobs.entries())
        expect(Math.abs(promptLogprobs![i + 1]!.logprob - logprob)).toBeLessThan(2e-3);
      const tie = c.greedy_margins.findIndex((m) => m < TIE);
      expect(tokens.slice(0, tie < 0 ? length : tie)).toEqual(c.greedy.slice(0, tie < 0 ? length : tie));
    }
    // llama 3's frequencies are a formula in one file and a table of f32 in the other.
    if (name !== 'llama') expect(found).toEqual(await answers(oracle(name), prompts, length));
  });
});

/** The same model with each quantized tensor as the numbers that it stands for. */
function dequantized({ metadata, tensors }: GgufParts, types: ReadonlyMap<string, StoredType>): GgufParts {
  const floats = Object.entries(tensors).map(([name, tensor]) => {
    const values = new Float32Array(decode(types.get(name) ?? 'F32', tensor.bytes));
    return [name, { ...tensor, type: GGML_TYPE.F32, bytes: encode('F32', values) }] as const;
  });
  return { metadata, tensors: Object.fromEntries(floats) };
}

function quantized(folder: string, typeOf: (name: string, cols: number) => StoredType) {
  const types = new Map<string, StoredType>();
  const parts = convertFolder(folder, (name, cols) => {
    types.set(name, typeOf(name, cols));
    return types.get(name)!;
  });
  return { parts, types };
}

const PROMPTS = [
  [1, 301, 207, 1541, 409, 538, 39, 2, 207, 1, 300, 207],
  Array.from({ length: 20 }, (_, i) => (i * 37 + 3) % 2600),
];

describe('a quantized model gives what its numbers as f32 give', () => {
  test.each(['F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q6_K'] as const)(
    '%s, bit for bit',
    async (type) => {
      const { parts, types } = quantized(PICO, () => type);
      const found = await answers(filesOf(parts), PROMPTS, 6);
      const wanted = await answers(filesOf(dequantized(parts, types)), PROMPTS, 6);
      expect(found.answers).toEqual(wanted.answers);
      expect(wanted.numericsId).toContain('/f32/');
      expect(found.numericsId).not.toBe(wanted.numericsId);
    },
  );

  test.each(['Q4_K', 'Q5_K'] as const)('%s, but for the rounding of its scales', async (type) => {
    const { parts, types } = quantized(PICO, () => type);
    const found = await answers(filesOf(parts), PROMPTS, 1);
    const wanted = await answers(filesOf(dequantized(parts, types)), PROMPTS, 1);
    const logprobs = (a: typeof found) =>
      a.answers.flatMap((each) => each.promptLogprobs!.slice(1).map((l) => l!.logprob));
    const [got, want] = [logprobs(found), logprobs(wanted)];
    const largest = Math.max(...got.map((l, i) => Math.abs(l - want[i]!)));
    expect(largest).toBeLessThan(0.05);
    expect(largest).toBeGreaterThan(0);
  });

  test('mixed as Q4_K_M mixes: v and down in more bits than the rest', async () => {
    const { parts, types } = quantized(PICO, (name) => {
      if (/attn_v|token_embd/.test(name)) return 'Q6_K';
      return /ffn_down/.test(name) ? 'Q8_0' : 'Q4_0';
    });
    const found = await answers(filesOf(parts), PROMPTS, 6);
    const wanted = await answers(filesOf(dequantized(parts, types)), PROMPTS, 6);
    expect(found.answers).toEqual(wanted.answers);
    expect(found.numericsId).toContain('/int4+int8+int8-16/');
  });

  test.each(['llama', 'gemma3', 'phi3', 'qwen3-moe'])('Q8_0, in the row order of %s', async (name) => {
    const { parts, types } = quantized(oracle(name), (_, cols) => (cols % 32 === 0 ? 'Q8_0' : 'F32'));
    const prompts = casesOf(name).map((c) => c.input_ids);
    const found = await answers(filesOf(parts), prompts, 8);
    const wanted = await answers(filesOf(dequantized(parts, types)), prompts, 8);
    expect(found.answers).toEqual(wanted.answers);
  });
});
