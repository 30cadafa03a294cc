import { beforeAll, describe, expect, test } from 'vitest';
import { weightLayout } from '../../src/engine/kernels/dtype.ts';
import { modelSpec } from '../../src/engine/model/config.ts';
import { f16 } from '../../src/engine/weights/float16.ts';
import type { LoadedWeight } from '../../src/engine/weights/loaded.ts';
import { unpackRow } from '../../src/engine/weights/unpack.ts';
import { loadWeights } from '../../src/engine/weights/weights.ts';
import { memoryFiles } from '../support/folder-files.ts';
import { picoTokenizer } from '../support/pico-tokenizer.ts';
import { safetensorsFile, type TestTensors } from '../support/safetensors-file.ts';
import { Bench, openDawn, shaders } from './dawn.ts';
import { floats, random, stored, unstored } from './kernels/reference.ts';
import { rightAnswers, skills } from './skills.ts';
import { TestEngine } from './test-engine.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

/** Columns of 48, 80 and 64: broken blocks, an odd number of blocks, and an even one; q, k and v are stacked. */
const spec = modelSpec({
  model_type: 'qwen3_moe',
  vocab_size: 37,
  hidden_size: 80,
  intermediate_size: 64,
  num_hidden_layers: 2,
  mlp_only_layers: [0],
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 32,
  num_experts: 3,
  num_experts_per_tok: 2,
  moe_intermediate_size: 48,
  max_position_embeddings: 64,
});

type Float = 'F32' | 'BF16' | 'F16';
const FLOATS = { F32: 'f32', BF16: 'bf16', F16: 'f16' } as const;

function model(dtype: Float) {
  const rand = random(dtype.length);
  const tensors: TestTensors = {};
  const values = new Map<string, Float64Array>();
  for (const { sources, cols } of spec.weights) {
    for (const { name, rows } of sources) {
      // Rows of very different sizes, and one of zeros.
      const x = floats(rand, rows * cols).map((v, i) => v ** 3 * 2 ** -((Math.floor(i / cols) * 3) % 9));
      x.fill(0, 0, cols > 1 ? cols : 0);
      const { words, values: held } = stored(FLOATS[dtype], x);
      const bytes = new Uint8Array(words.buffer).slice(0, x.length * (dtype === 'F32' ? 4 : 2));
      tensors[name] = { dtype, shape: cols === 1 ? [rows] : [rows, cols], bytes };
      values.set(name, held);
    }
  }
  return { tensors, values };
}

async function rowsOf(weight: LoadedWeight): Promise<Float32Array[]> {
  const bytes = new Uint8Array(await bench.read(weight.buffer));
  return Array.from({ length: weight.rows }, (_, row) => unpackRow(bytes, weight, row));
}

/** Squared error of Q4_0 as ggml's `quantize_row_q4_0_ref` has it: scale = (number of the largest magnitude) / -8. */
function q40Error(block: readonly number[]): number {
  const furthest = block.reduce((m, v) => (Math.abs(v) > Math.abs(m) ? v : m), 0);
  const d = furthest / -8;
  return block.reduce((sum, v) => sum + (d === 0 ? 0 : (d * (Math.min(15, Math.floor(v / d + 8.5)) - 8) - v) ** 2), 0);
}

describe.each(['int8', 'int4'] as const)('%s while loading', (quantization) => {
  test.each(['F32', 'BF16', 'F16'] as const)('from %s, streamed in odd chunks', async (dtype) => {
    const { tensors, values } = model(dtype);
    const files = memoryFiles({ 'model.safetensors': safetensorsFile(tensors) }, [997, 3, 20_011]);
    const weights = await loadWeights(bench.gpu.device, spec, files, { quantization, shaders });
    let mine = 0;
    let ggml = 0;
    for (const w of spec.weights) {
      const loaded = w.role === 'qkv' ? weights.parts('qkv', w.layer)[0]! : weights.get(w.role, w.layer);
      const want = w.sources.flatMap(({ name }) => [...values.get(name)!]);
      if (w.cols === 1 || w.role === 'router') {
        expect(loaded.dtype).toBe(w.cols === 1 ? 'f32' : FLOATS[dtype]);
        const held = unstored(w.cols === 1 ? 'f32' : FLOATS[dtype], await bench.read(loaded.buffer));
        expect([...held].slice(0, want.length)).toEqual(want);
        continue;
      }
      expect(loaded.dtype).toBe(quantization);
      const found = await rowsOf(loaded);
      expect(found).toHaveLength(w.rows);
      for (const [row, numbers] of found.entries()) {
        for (let at = 0; at < w.cols; at += 32) {
          const block = want.slice(row * w.cols + at, row * w.cols + Math.min(at + 32, w.cols));
          const got = [...numbers.subarray(at, at + block.length)];
          const largest = Math.max(...block.map(Math.abs));
          const squares = got.reduce((sum, v, i) => sum + (v - block[i]!) ** 2, 0);
          if (quantization === 'int8') {
            // Half a step, and what the scale lost when it became f16: 127 times half a unit in its last place, or of a subnormal.
            const step = largest / 127;
            const bound = step * (0.5 + 0.1) + 127 * 2 ** -25;
            for (const [i, v] of got.entries()) expect(Math.abs(v - block[i]!)).toBeLessThanOrEqual(bound);
          } else if (largest > 2 ** -6) {
            mine += squares;
            ggml += q40Error(block);
            expect(squares).toBeLessThanOrEqual(q40Error(block) * 1.01 + 1e-9);
          }
        }
      }
    }
    if (quantization === 'int4') expect(mine).toBeLessThan(0.95 * ggml);
    const [first] = weights.parts('qkv', 0);
    expect(first).toMatchObject({ rows: 128, cols: 80, scalesAt: weightLayout(quantization, 128, 80).scalesAt / 4 });
    weights.destroy();
  });
});

test('rows, scales and integers are where the layout says', async () => {
  const { tensors } = model('F32');
  const files = memoryFiles({ 'model.safetensors': safetensorsFile(tensors) });
  const weights = await loadWeights(bench.gpu.device, spec, files, { quantization: 'int8', shaders });
  const embed = weights.get('embed', null);
  const view = new DataView(await bench.read(embed.buffer));
  const source = new Float32Array(Uint8Array.from(tensors['model.embed_tokens.weight']!.bytes).buffer);
  // Row 5, third block: columns 64 to 79 of 80, padded to 96; scales of a row take two words.
  const block = source.subarray(5 * 80 + 64, 6 * 80);
  const scale = f16(view.getUint16(4 * embed.scalesAt + 5 * 8 + 4, true));
  expect(Math.abs(scale * 127 - Math.max(...block.map(Math.abs)))).toBeLessThan(scale);
  for (const [i, v] of block.entries())
    expect(Math.abs(view.getInt8(5 * 96 + 64 + i) - v / scale)).toBeLessThanOrEqual(0.5001);
  for (let i = 16; i < 32; i++) expect(view.getInt8(5 * 96 + 64 + i)).toBe(0);
  weights.destroy();
});

test('without shaders nothing can be quantized, and it is said before anything is read', async () => {
  const { tensors } = model('F32');
  const files = memoryFiles({ 'model.safetensors': safetensorsFile(tensors) });
  await expect(loadWeights(bench.gpu.device, spec, files, { quantization: 'int8' })).rejects.toThrow(
    'needs the shaders',
  );
});

test('quire-pico as int8 still knows its skills', async () => {
  const engine = await TestEngine.create({ quantization: 'int8', kvCacheDtype: 'f16' });
  expect(engine.engine.info.numericsId).toContain('/int8/');
  // 8.5 bits in the place of 16.
  expect(engine.weightBytes / 11_550_000).toBeLessThan(0.54);
  const cases = Object.values(skills()).map(([first]) => first!);
  expect(cases).toHaveLength(8);
  expect(await rightAnswers(engine, picoTokenizer(), cases)).toBe(8);
  await engine.close();
});
