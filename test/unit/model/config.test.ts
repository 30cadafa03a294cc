import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { llama, refusal, SIZES } from './configs.ts';

const fixtures = new URL('../../fixtures/', import.meta.url);
const json = (path: string) => JSON.parse(readFileSync(new URL(path, fixtures), 'utf8'));

const qwen3 = (more: object = {}) => ({ model_type: 'qwen3', ...SIZES, head_dim: 32, ...more });

/** Shapes of the tensors in a safetensors file, by an own reading of its header. */
function shapesIn(path: string): Record<string, number[]> {
  const file = readFileSync(new URL(path, fixtures));
  const header = JSON.parse(file.toString('utf8', 8, 8 + Number(file.readBigUInt64LE(0))));
  delete header.__metadata__;
  return Object.fromEntries(Object.entries(header).map(([name, t]) => [name, (t as { shape: number[] }).shape]));
}

const oracles = readdirSync(new URL('oracles/', fixtures));

describe('the checkpoints of the oracles', () => {
  test.each(oracles)('%s: the weights are the tensors of the file, each once', (name) => {
    const spec = modelSpec(json(`oracles/${name}/config.json`));
    const shapes = shapesIn(`oracles/${name}/model.safetensors`);
    const expected = spec.weights.flatMap((w) =>
      w.sources.map((s): [string, number[]] => [s.name, w.cols === 1 ? [s.rows] : [s.rows, w.cols]]),
    );
    expect(new Set(expected.map(([tensor]) => tensor)).size).toBe(expected.length);
    expect(Object.fromEntries(expected)).toEqual(shapes);
  });

  test.each(['gpt2', 'gemma2', 'mixtral', 'qwen3_next'])('%s: refused by name', (model_type) => {
    expect(refusal({ model_type, ...SIZES })).toContain(
      `"${model_type}" is not supported. Supported: llama, mistral, qwen2, qwen3, qwen3_moe, phi3, gemma3_text`,
    );
  });

  test('llama: rope of the llama3 kind, biases off, head not tied', () => {
    const spec = modelSpec(json('oracles/llama/config.json'));
    expect(spec).toMatchObject({ qkNorm: false, qkvBias: false, oBias: false, tiedEmbeddings: false, normEps: 1e-5 });
    expect(spec.layers).toHaveLength(3);
    expect(spec.layers[0]).toEqual({
      rope: {
        theta: 10_000,
        rotaryDim: 16,
        attentionFactor: 1,
        scaling: { kind: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 },
      },
      slidingWindow: null,
      experts: null,
    });
    expect(spec.weights.at(-1)).toMatchObject({ role: 'lmHead', rows: 384, cols: 64 });
  });

  test('qwen3: norms of q and k stacked, head of its own size, tied', () => {
    const spec = modelSpec(json('oracles/qwen3/config.json'));
    expect(spec).toMatchObject({ qkNorm: true, headDim: 32, tiedEmbeddings: true, attentionScale: 1 / Math.sqrt(32) });
    expect(spec.layers[2]!.rope.theta).toBe(1_000_000);
    const norms = spec.weights.find((w) => w.role === 'qkNorm' && w.layer === 1);
    expect(norms?.rows).toBe(64);
    expect(norms?.sources.map((s) => s.name.split('.').at(-2))).toEqual(['q_norm', 'k_norm']);
    expect(spec.weights.some((w) => w.role === 'lmHead')).toBe(false);
  });
});

describe('kinds', () => {
  test('qwen2: biases on q, k and v, none on o', () => {
    const spec = modelSpec({ model_type: 'qwen2', ...SIZES });
    expect(spec).toMatchObject({ qkvBias: true, oBias: false, qkNorm: false, headDim: 16 });
    expect(spec.weights.find((w) => w.role === 'qkvBias')).toMatchObject({ rows: 64 + 32 + 32, cols: 1 });
  });

  test('attention_bias of llama and qwen3 is on all four projections', () => {
    for (const config of [llama({ attention_bias: true }), qwen3({ attention_bias: true })]) {
      const spec = modelSpec(config);
      expect(spec).toMatchObject({ qkvBias: true, oBias: true });
      const names = spec.weights.filter((w) => w.layer === 0 && w.role.endsWith('Bias')).flatMap((w) => w.sources);
      expect(names.map((s) => s.name.split('.').at(-2))).toEqual(['q_proj', 'k_proj', 'v_proj', 'o_proj']);
    }
    expect(refusal({ model_type: 'mistral', ...SIZES, attention_bias: true })).toContain('attention_bias');
  });

  test('mistral: a window on all layers; null turns it off; absent means the default of 4096', () => {
    const windows = (more: object) =>
      modelSpec({ model_type: 'mistral', ...SIZES, ...more }).layers.map((l) => l.slidingWindow);
    expect(windows({ sliding_window: 32 })).toEqual([32, 32, 32]);
    expect(windows({ sliding_window: null })).toEqual([null, null, null]);
    expect(windows({})).toEqual([4096, 4096, 4096]);
  });

  test('qwen: a window only with use_sliding_window, from max_window_layers on, unless layer_types says which', () => {
    const windows = (more: object) =>
      modelSpec(qwen3({ sliding_window: 8, ...more })).layers.map((l) => l.slidingWindow);
    expect(windows({ max_window_layers: 1 })).toEqual([null, null, null]);
    expect(windows({ use_sliding_window: true })).toEqual([null, null, null]);
    expect(windows({ use_sliding_window: true, max_window_layers: 1 })).toEqual([null, 8, 8]);
    const layer_types = ['sliding_attention', 'full_attention', 'sliding_attention'];
    expect(windows({ use_sliding_window: true, max_window_layers: 1, layer_types })).toEqual([8, null, 8]);
  });

  test('layer_types that contradict the rest are refused', () => {
    const slides = ['sliding_attention', 'full_attention', 'full_attention'];
    expect(refusal(qwen3({ layer_types: slides }))).toContain('layer 0 slides, but the config has no sliding window');
    expect(refusal(qwen3({ layer_types: slides.slice(1) }))).toContain('names 2 layers, num_hidden_layers is 3');
    expect(refusal(qwen3({ layer_types: ['linear_attention', ...slides.slice(1)] }))).toContain('"linear_attention"');
    expect(refusal({ model_type: 'mistral', ...SIZES, sliding_window: 8, layer_types: slides })).toContain(
      'does not mix',
    );
  });

  test('head_dim: absent in llama it is hidden_size / heads, in qwen3 128', () => {
    expect(modelSpec(llama()).headDim).toBe(16);
    expect(modelSpec(llama({ head_dim: 48 })).headDim).toBe(48);
    expect(modelSpec({ model_type: 'qwen3', ...SIZES }).headDim).toBe(128);
    expect(modelSpec(llama({ num_key_value_heads: null })).numKvHeads).toBe(4);
  });
});

describe('phi3, gemma3 and experts', () => {
  test('phi3: fused tensors, no window unless there is one, a part of a head may turn', () => {
    const phi3 = (more: object) => modelSpec({ model_type: 'phi3', ...SIZES, ...more });
    const sources = (role: string) => phi3({}).weights.find((w) => w.role === role && w.layer === 1)?.sources;
    expect(sources('qkv')).toEqual([{ name: 'model.layers.1.self_attn.qkv_proj.weight', rows: 128 }]);
    expect(sources('gateUp')).toEqual([{ name: 'model.layers.1.mlp.gate_up_proj.weight', rows: 320 }]);
    expect(phi3({}).layers[0]!.slidingWindow).toBe(null);
    expect(phi3({ sliding_window: 8 }).layers[0]!.slidingWindow).toBe(8);
    expect(phi3({ partial_rotary_factor: 0.75 }).layers[0]!.rope.rotaryDim).toBe(12);
    expect(refusal({ model_type: 'phi3', ...SIZES, partial_rotary_factor: 0.2 })).toContain('must be an even number');
  });

  test('gemma3: both spellings of its two ropes and of its pattern give the same', () => {
    const gemma = (more: object) =>
      modelSpec({ model_type: 'gemma3_text', ...SIZES, head_dim: 32, sliding_window: 16, ...more });
    const old = gemma({
      rope_theta: 5e5,
      rope_local_base_freq: 1e3,
      rope_scaling: { rope_type: 'linear', factor: 8 },
      sliding_window_pattern: 2,
    });
    const full = { rope_type: 'linear', factor: 8, rope_theta: 5e5 };
    const current = gemma({
      rope_parameters: { full_attention: full, sliding_attention: { rope_type: 'default', rope_theta: 1e3 } },
      layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
    });
    expect(current).toEqual(old);
    expect(old.layers.map((l) => [l.slidingWindow, l.rope.theta, l.rope.scaling.kind])).toEqual([
      [16, 1e3, 'default'],
      [null, 5e5, 'linear'],
      [16, 1e3, 'default'],
    ]);
    const plain = gemma({ query_pre_attn_scalar: 64, attn_logit_softcapping: 50, final_logit_softcapping: 30 });
    expect(plain).toMatchObject({ normOffset: 1, embedScale: 8, attentionScale: 0.125, tiedEmbeddings: true });
    expect(plain).toMatchObject({ attentionSoftcap: 50, logitSoftcap: 30, activation: 'gelu_tanh', outNorms: true });
    expect(plain.layers.map((l) => l.rope.theta)).toEqual([1e4, 1e4, 1e4]);
    expect(gemma({ num_hidden_layers: 6 }).layers.map((l) => l.slidingWindow !== null)).toEqual([
      ...[true, true, true, true, true, false],
    ]);
    expect(refusal({ model_type: 'gemma3_text', ...SIZES, use_bidirectional_attention: true })).toContain('use_bidir');
  });

  test('qwen3_moe: which layers are sparse, and sizes that do not fit', () => {
    const moe = (more: object) => ({
      model_type: 'qwen3_moe',
      ...SIZES,
      num_experts: 4,
      num_experts_per_tok: 2,
      ...more,
    });
    const sparse = (more: object) => modelSpec(moe(more)).layers.map((l) => l.experts !== null);
    expect(sparse({})).toEqual([true, true, true]);
    expect(sparse({ decoder_sparse_step: 2 })).toEqual([false, true, false]);
    expect(sparse({ mlp_only_layers: [0, 2] })).toEqual([false, true, false]);
    const spec = modelSpec(moe({ moe_intermediate_size: 48, mlp_only_layers: [0] }));
    expect(spec.layers[1]!.experts).toEqual({ count: 4, perToken: 2, intermediateSize: 48, normalized: false });
    expect(spec.weights.filter((w) => w.layer === 0).some((w) => w.role === 'router')).toBe(false);
    expect(spec.weights.find((w) => w.role === 'expertGateUp')).toMatchObject({ layer: 1, rows: 4 * 96, cols: 64 });
    expect(refusal(moe({ num_experts_per_tok: 5 }))).toContain('num_experts_per_tok 5 is more than the 4 experts');
    expect(refusal(moe({ moe_intermediate_size: 47 }))).toContain('moe_intermediate_size 47 is odd');
  });
});

describe('end of sequence', () => {
  const eos = (config: unknown, generation?: unknown) => modelSpec(llama({ eos_token_id: config }), generation).eosIds;

  test('numbers or lists, of the generation config first, each once', () => {
    expect(eos(2)).toEqual([2]);
    expect(eos([2, 3])).toEqual([2, 3]);
    expect(eos(null)).toEqual([]);
    expect(eos(2, { eos_token_id: [2, 0] })).toEqual([2, 0]);
    expect(eos([5, 6], { eos_token_id: 7 })).toEqual([7, 5, 6]);
    expect(eos(2, {})).toEqual([2]);
  });

  test('wrong default sampling beside them is the matter of who reads it', () => {
    expect(eos(2, { eos_token_id: 7, temperature: -1 })).toEqual([7, 2]);
  });

  test('ids outside the vocabulary are refused', () => {
    expect(refusal(llama({ eos_token_id: 384 }))).toContain('eos_token_id 384 is not below vocab_size 384');
    expect(refusal(llama(), { eos_token_id: [1, -1] })).toContain('generation_config.json: eos_token_id');
  });
});

describe('what is not computed is refused by name', () => {
  test.each([
    [{ quantization_config: { quant_method: 'awq' } }, 'quantization_config = {"quant_method":"awq"} is a quantized'],
    [{ mlp_bias: true }, 'mlp_bias = true is not supported'],
    [{ final_logit_softcapping: 30 }, 'final_logit_softcapping = 30'],
    [{ num_local_experts: 8 }, 'num_local_experts = 8'],
    [{ hidden_act: 'relu' }, 'hidden_act "relu" is not supported. Supported: silu'],
    [{ hidden_act: 'constructor' }, 'hidden_act "constructor"'],
    [{ architectures: ['LlamaForSequenceClassification'] }, 'LlamaForSequenceClassification'],
  ])('%j', (more, words) => {
    expect(refusal(llama(more))).toContain(words);
  });

  test('fields that change nothing are let through', () => {
    const harmless = {
      attention_dropout: 0.1,
      pretraining_tp: 2,
      mlp_bias: false,
      quantization_config: null,
      use_cache: false,
    };
    expect(modelSpec(llama(harmless)).architecture).toBe('LlamaForCausalLM');
  });
});

describe('untrusted sizes', () => {
  test.each([
    [{ vocab_size: 0 }, 'vocab_size'],
    [{ vocab_size: 2 ** 40 }, 'vocab_size'],
    [{ hidden_size: 64.5 }, 'hidden_size'],
    [{ num_hidden_layers: 1e9 }, 'num_hidden_layers'],
    [{ num_hidden_layers: '3' }, 'num_hidden_layers'],
    [{ num_attention_heads: undefined }, 'num_attention_heads'],
    [{ num_key_value_heads: 3 }, 'num_attention_heads 4 is no multiple of num_key_value_heads 3'],
    [{ num_attention_heads: 6, num_key_value_heads: 6 }, 'hidden_size 64 is no multiple of num_attention_heads 6'],
    [{ head_dim: 15 }, 'head_dim 15 is odd'],
    [{ intermediate_size: 161 }, 'intermediate_size 161 is odd'],
    [{ rms_norm_eps: -1 }, 'rms_norm_eps'],
  ])('%j', (more, words) => {
    expect(refusal(llama(more))).toContain(words);
  });

  test.each([[null], [[]], ['x'], [{}], [{ model_type: 7 }], [{ model_type: 'toString' }]])('%j', (config) => {
    expect(refusal(config)).toContain('config.json');
  });
});
