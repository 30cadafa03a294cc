import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import type { ModelFiles } from '../../../src/engine/files/source.ts';
import { readModelSpec } from '../../../src/engine/model/read-spec.ts';
import type { LoadedWeight } from '../../../src/engine/weights/loaded.ts';
import { unpackWeight } from '../../../src/engine/weights/unpack.ts';
import { loadWeights } from '../../../src/engine/weights/weights.ts';
import { floats, random } from '../../gpu/kernels/reference.ts';
import { FakeDevice } from '../../support/fake-device.ts';
import { memoryFiles } from '../../support/folder-files.ts';
import { decode, encode, type StoredType } from '../../support/ggml-types.ts';
import { GGML_TYPE, type GgufTensor, ggufFile } from '../../support/gguf-file.ts';

const [HIDDEN, HEAD, MLP, EXPERTS, VOCAB] = [64, 8, 32, 3, 5];
const METADATA = {
  'general.architecture': 'qwen3moe',
  'qwen3moe.context_length': 16,
  'qwen3moe.embedding_length': HIDDEN,
  'qwen3moe.block_count': 1,
  'qwen3moe.feed_forward_length': MLP,
  'qwen3moe.attention.head_count': 4,
  'qwen3moe.attention.head_count_kv': 2,
  'qwen3moe.attention.key_length': HEAD,
  'qwen3moe.attention.layer_norm_rms_epsilon': 1e-5,
  'qwen3moe.expert_count': EXPERTS,
  'qwen3moe.expert_used_count': 2,
  'qwen3moe.expert_feed_forward_length': MLP,
};

const rand = random(5);
const tensor = (type: StoredType, ...shape: number[]): GgufTensor => {
  const count = shape.reduce((a, b) => a * b, 1);
  return { type: GGML_TYPE[type], shape, bytes: encode(type, floats(rand, count)) };
};
const TENSORS: Record<string, GgufTensor> = {
  'token_embd.weight': tensor('Q5_1', VOCAB, HIDDEN),
  'blk.0.attn_norm.weight': tensor('F32', HIDDEN),
  'blk.0.attn_v.weight': tensor('Q8_0', 16, HIDDEN),
  'blk.0.attn_q.weight': tensor('Q4_0', 32, HIDDEN),
  'blk.0.attn_k.weight': tensor('Q4_0', 16, HIDDEN),
  'blk.0.attn_q_norm.weight': tensor('F16', HEAD),
  'blk.0.attn_k_norm.weight': tensor('F16', HEAD),
  'blk.0.attn_output.weight': tensor('Q4_1', HIDDEN, 32),
  'blk.0.ffn_norm.weight': tensor('F32', HIDDEN),
  'blk.0.ffn_gate_inp.weight': tensor('F32', EXPERTS, HIDDEN),
  'blk.0.ffn_gate_exps.weight': tensor('Q5_0', EXPERTS, MLP, HIDDEN),
  'blk.0.ffn_up_exps.weight': tensor('Q8_0', EXPERTS, MLP, HIDDEN),
  'blk.0.ffn_down_exps.weight': tensor('Q4_0', EXPERTS, HIDDEN, MLP),
  'output_norm.weight': tensor('F32', HIDDEN),
};
const TYPE_OF = Object.fromEntries(Object.entries(GGML_TYPE).map(([name, n]) => [n, name as StoredType]));
const numbersOf = (name: string) => decode(TYPE_OF[TENSORS[name]!.type]!, TENSORS[name]!.bytes);

const filesOf = (tensors: Record<string, GgufTensor>, chunks?: number[]): ModelFiles =>
  memoryFiles({ 'm.gguf': ggufFile({ metadata: METADATA, tensors }) }, chunks);

async function load(tensors: Record<string, GgufTensor>, chunks?: number[], device = new FakeDevice()) {
  const files = filesOf(tensors, chunks);
  return await loadWeights(device.asDevice(), await readModelSpec(files), files);
}

function valuesOf(weight: LoadedWeight): Float32Array {
  return unpackWeight([{ ...weight, firstOutput: 0, bytes: (weight.buffer as unknown as { bytes: Uint8Array }).bytes }])
    .values;
}
const rounded = (...numbers: Float64Array[]) => Float32Array.from(numbers.flatMap((n) => [...n]));

async function expectLoaded(chunks?: number[]): Promise<void> {
  const weights = await load(TENSORS, chunks);
  expect(valuesOf(weights.get('embed', null))).toEqual(rounded(numbersOf('token_embd.weight')));
  expect(valuesOf(weights.get('oProj', 0))).toEqual(rounded(numbersOf('blk.0.attn_output.weight')));
  const [qk, v, ...none] = weights.parts('qkv', 0);
  expect(none).toEqual([]);
  expect([qk!.dtype, qk!.firstOutput, qk!.rows, v!.dtype, v!.firstOutput, v!.rows]).toEqual([
    'int4',
    0,
    48,
    'int8',
    48,
    16,
  ]);
  expect(valuesOf(qk!)).toEqual(rounded(numbersOf('blk.0.attn_q.weight'), numbersOf('blk.0.attn_k.weight')));
  expect(valuesOf(v!)).toEqual(rounded(numbersOf('blk.0.attn_v.weight')));
  const [gate, up] = ['gate', 'up'].map((kind) => numbersOf(`blk.0.ffn_${kind}_exps.weight`));
  const size = MLP * HIDDEN;
  const each = Array.from({ length: EXPERTS }, (_, e) => [gate!, up!].map((x) => x.slice(e * size, (e + 1) * size)));
  // Q5_0 and Q8_0 are both held as int8.
  expect(valuesOf(weights.get('expertGateUp', 0))).toEqual(rounded(...each.flat()));
  expect(valuesOf(weights.get('expertDown', 0))).toEqual(rounded(numbersOf('blk.0.ffn_down_exps.weight')));
  expect(weights.get('router', 0).dtype).toBe('f32');
  expect(valuesOf(weights.get('qkNorm', 0))).toEqual(
    rounded(numbersOf('blk.0.attn_q_norm.weight'), numbersOf('blk.0.attn_k_norm.weight')),
  );
  expect(weights.dtypes).toBe('f32+int4+int4-min+int8+int8-min');
}

describe('the tensors of a GGUF file', () => {
  test('become weights: experts side by side, q, k and v by what they are held as', () => expectLoaded());

  test.each([[1], [33, 7], [4096], [997, 3, 20_011]])('however the stream is cut: %j, %j', async (...chunks) => {
    await expectLoaded(chunks.filter((n) => typeof n === 'number'));
  });
});

describe('tensors that do not fit', () => {
  const refusal = async (change: Record<string, GgufTensor | undefined>): Promise<string> => {
    const changed = Object.entries({ ...TENSORS, ...change }).filter(([, t]) => t !== undefined);
    const device = new FakeDevice();
    const error = await load(Object.fromEntries(changed) as Record<string, GgufTensor>, undefined, device).catch(
      (e) => e,
    );
    expect(error).toBeInstanceOf(EngineError);
    expect(device.buffers.every((b) => b.destroyed)).toBe(true);
    return (error as EngineError).message;
  };

  test('held otherwise than what they are stacked with', async () => {
    expect(await refusal({ 'blk.0.ffn_up_exps.weight': tensor('Q4_1', EXPERTS, MLP, HIDDEN) })).toContain(
      'ffn_up_exps.weight: is Q4_1, but blk.0.ffn_gate_exps.weight, which it is stacked with, is Q5_0',
    );
  });

  test('missing, of no model, of another shape, or norms in blocks', async () => {
    expect(await refusal({ 'blk.0.attn_k.weight': undefined })).toContain('lacks blk.0.attn_k.weight');
    expect(await refusal({ 'blk.1.attn_k.weight': tensor('F32', 4) })).toContain('is not part of Qwen3MoeForCausalLM');
    expect(await refusal({ 'blk.0.ffn_up_exps.weight': tensor('Q8_0', MLP, EXPERTS, HIDDEN) })).toContain(
      "has shape [32, 3, 64], the model's configuration asks for [3, 32, 64]",
    );
    expect(await refusal({ 'output_norm.weight': tensor('Q8_0', HIDDEN) })).toContain(
      'is Q8_0; norms and biases must be F32, BF16 or F16',
    );
  });
});
