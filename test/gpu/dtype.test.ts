import { beforeAll, describe, expect, test } from 'vitest';
import { convertFloats } from '../../src/engine/kernels/convert.ts';
import { modelSpec } from '../../src/engine/model/config.ts';
import { unpackWeight } from '../../src/engine/weights/unpack.ts';
import { loadWeights } from '../../src/engine/weights/weights.ts';
import { memoryFiles } from '../support/folder-files.ts';
import { safetensorsFile, type TestTensors } from '../support/safetensors-file.ts';
import { Bench, openDawn, shaders } from './dawn.ts';
import { floats, random, stored } from './kernels/reference.ts';
import { PICO, TestEngine, type TestEngineOptions } from './test-engine.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const KINDS = ['f32', 'bf16', 'f16'] as const;
type Kind = (typeof KINDS)[number];
const pairs = KINDS.flatMap((from) => KINDS.filter((to) => to !== from).map((to) => [from, to] as const));

/** What a number is in each kind is the reference's word; halves between two bf16 are among them, and what f16 cannot hold. */
const EDGES = [0, 1, -1, 1.00390625, 1.01171875, -1.00390625, 65504, -65504, 65520, 70000, -1e30, 3e-8, 6.1e-5, 0.1];

describe.each(pairs)('%s as %s', (from, to) => {
  test('each number is the nearest, in its place, and those beyond f16 are counted', async () => {
    const numbers = Float32Array.from([...EDGES, ...floats(random(3), 2000, 3), ...floats(random(4), 100, 1e5)]);
    const source = stored(from, numbers);
    const want = stored(to, Float32Array.from(source.values));
    const words = new Uint32Array(4 + want.words.length).fill(0xabcd);
    const weight = bench.buffer(words);
    const [place, clamped] = [bench.buffer(16), bench.buffer(16)];
    const count = numbers.length / 2;
    const args = { label: 'convert', pairs: count, from, to, place, clamped, weight };
    const call = convertFloats({ ...args, source: bench.buffer(source.words) });
    // Behind two pairs that stay as they are.
    bench.gpu.device.queue.writeBuffer(place, 0, Uint32Array.of(count, 2, call.threads));
    await bench.run(call);
    const before = to === 'f32' ? 4 : 2;
    const got = new Uint32Array(await bench.read(weight));
    expect([...got.subarray(0, before)]).toEqual(Array(before).fill(0xabcd));
    expect([...got.subarray(before, before + want.words.length)]).toEqual([...want.words]);
    const beyond = source.values.filter((x) => Math.abs(x) > 65504).length;
    if (from !== 'f16') expect(beyond).toBeGreaterThan(3);
    expect(new Uint32Array(await bench.read(clamped))[0]).toBe(to === 'f16' ? beyond : 0);
  });
});

/** Experts and dense layers, q, k and v stacked. */
const spec = modelSpec({
  model_type: 'qwen3_moe',
  vocab_size: 37,
  hidden_size: 40,
  intermediate_size: 24,
  num_hidden_layers: 2,
  mlp_only_layers: [0],
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 6,
  num_experts: 3,
  num_experts_per_tok: 2,
  moe_intermediate_size: 14,
  max_position_embeddings: 64,
});
const SAFETENSORS = { f32: 'F32', bf16: 'BF16', f16: 'F16' } as const;

function model(dtype: Kind) {
  const rand = random(9);
  const tensors: TestTensors = {};
  const values = new Map<string, Float64Array>();
  for (const { sources, cols } of spec.weights) {
    for (const { name, rows } of sources) {
      const held = stored(dtype, floats(rand, rows * cols, 2));
      const bytes = new Uint8Array(held.words.buffer).slice(0, rows * cols * (dtype === 'f32' ? 4 : 2));
      tensors[name] = { dtype: SAFETENSORS[dtype], shape: cols === 1 ? [rows] : [rows, cols], bytes };
      values.set(name, held.values);
    }
  }
  return { tensors, values };
}

describe.each(pairs)('--dtype while loading, %s to %s', (from, dtype) => {
  test.each([null, 1024])('every number is in its place, buffers of at most %s bytes', async (maxBufferBytes) => {
    const { tensors, values } = model(from);
    const files = memoryFiles({ 'model.safetensors': safetensorsFile(tensors) }, [997, 3, 20_011]);
    const options = { dtype, shaders, ...(maxBufferBytes && { maxBufferBytes }) };
    const clamped: number[] = [];
    const onClamped = (count: number) => clamped.push(count);
    const weights = await loadWeights(bench.gpu.device, spec, files, { ...options, onClamped });
    expect(weights.dtypes).toBe(dtype);
    for (const { role, layer, sources, cols } of spec.weights) {
      const parts = weights.parts(role, layer).map(async (part) => ({
        ...part,
        bytes: new Uint8Array(await bench.read(part.buffer)),
      }));
      const numbers = Float32Array.from(sources.flatMap(({ name }) => [...values.get(name)!]));
      const want = stored(cols === 1 ? 'f32' : dtype, numbers).values;
      expect([...unpackWeight(await Promise.all(parts)).values]).toEqual([...want].slice(0, numbers.length));
    }
    expect(clamped).toEqual([]);
    weights.destroy();
  });
});

test('numbers that a f16 cannot hold are told, once, with their count', async () => {
  const { tensors } = model('bf16');
  const embedding = tensors['model.embed_tokens.weight']!;
  const high = new Uint16Array(embedding.bytes.buffer.slice(0, embedding.bytes.byteLength));
  // 2^17 in three places, one of them negative.
  for (const [at, bits] of [
    [0, 0x4800],
    [41, 0xc800],
    [high.length - 1, 0x4800],
  ] as const)
    high[at] = bits;
  const changed = { ...tensors, 'model.embed_tokens.weight': { ...embedding, bytes: new Uint8Array(high.buffer) } };
  const files = memoryFiles({ 'model.safetensors': safetensorsFile(changed) });
  const clamped: number[] = [];
  const onClamped = (count: number) => clamped.push(count);
  await loadWeights(bench.gpu.device, spec, files, { dtype: 'f16', shaders, onClamped });
  expect(clamped).toEqual([3]);
  await loadWeights(bench.gpu.device, spec, files, { dtype: 'f32', shaders, onClamped });
  expect(clamped).toEqual([3]);
});

const PROMPT = [1, 301, 207, 1541, 409, 538, 39, 2, 207, 1, 300, 207];

async function answer(options: TestEngineOptions) {
  const engine = await TestEngine.create({ folder: PICO, numGpuBlocksOverride: 64, maxNumSeqs: 4, ...options });
  const said = await engine.one(PROMPT, { maxTokens: 6, logprobs: 3, promptLogprobs: 0 });
  const { numericsId } = engine.engine.info;
  await engine.close();
  return { said, numericsId, bytes: engine.weightBytes };
}

test('quire-pico, which is bf16, says as f32 what it says, bit for bit, in twice the bytes', async () => {
  const [own, wide] = [await answer({}), await answer({ dtype: 'f32' })];
  expect(wide.said).toEqual(own.said);
  expect(own.numericsId).toContain('/bf16/');
  expect(wide.numericsId).toContain('/f32/');
  expect(wide.bytes / own.bytes).toBeGreaterThan(1.99);
});
