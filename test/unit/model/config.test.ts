import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';

const fixtures = new URL('../../fixtures/', import.meta.url);
const json = (path: string) => JSON.parse(readFileSync(new URL(path, fixtures), 'utf8'));

/** Sizes that all tests below share; each adds what it is about. */
const SIZES = {
  vocab_size: 384,
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 512,
};
const llama = (more: object = {}) => ({ model_type: 'llama', ...SIZES, ...more });
const qwen3 = (more: object = {}) => ({ model_type: 'qwen3', ...SIZES, head_dim: 32, ...more });

function refusal(config: unknown, generationConfig?: unknown): string {
  try {
    modelSpec(config, generationConfig);
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).code).toBe('model');
    return (error as EngineError).message;
  }
  throw new Error('was not refused');
}

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

  test.each(readdirSync(new URL('configs/', fixtures)))('%s: refused by name', (name) => {
    const config = json(`configs/${name}`);
    expect(refusal(config)).toContain(
      `"${config.model_type}" is not supported. Supported: llama, mistral, qwen2, qwen3`,
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
        scaling: { kind: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 },
      },
      slidingWindow: null,
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

describe('rope, in both spellings', () => {
  const scaling = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };
  const rope = (more: object) => modelSpec(llama(more)).layers[0]!.rope;

  test('rope_theta + rope_scaling says the same as rope_parameters', () => {
    const old = rope({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...scaling } });
    expect(old.scaling.kind).toBe('llama3');
    expect(rope({ rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...scaling } })).toEqual(old);
    expect(rope({ rope_theta: 5e5, rope_scaling: { type: 'llama3', ...scaling } })).toEqual(old);
    expect(rope({ rope_theta: 7, rope_parameters: { rope_type: 'default', rope_theta: 5e5 } }).theta).toBe(5e5);
    expect(rope({ rope_theta: 7, rope_parameters: { rope_type: 'default' } }).theta).toBe(7);
  });

  test('no scaling, null scaling and no theta', () => {
    expect(rope({ rope_theta: 42, rope_scaling: null })).toEqual({
      theta: 42,
      rotaryDim: 16,
      scaling: { kind: 'default' },
    });
    expect(rope({}).theta).toBe(10_000);
    expect(rope({ rope_scaling: { type: 'linear', factor: 2 } }).scaling).toEqual({ kind: 'linear', factor: 2 });
  });

  test.each(['dynamic', 'yarn', 'longrope', 'su', 'mrope', '__proto__'])('type %s is refused by name', (type) => {
    expect(refusal(llama({ rope_scaling: { type, factor: 2 } }))).toContain(`rope type "${type}" is not supported`);
    expect(refusal(llama({ rope_parameters: { rope_type: type } }))).toContain('Supported: default, linear, llama3');
  });

  test('wrong, missing or contradicting fields are refused', () => {
    expect(refusal(llama({ rope_scaling: { rope_type: 'llama3', ...scaling, factor: 0 } }))).toContain('factor');
    expect(refusal(llama({ rope_scaling: { rope_type: 'linear' } }))).toContain('factor');
    expect(refusal(llama({ rope_scaling: { rope_type: 'llama3', ...scaling, high_freq_factor: 1 } }))).toContain(
      'must exceed',
    );
    expect(refusal(llama({ rope_parameters: { full_attention: { rope_theta: 1 } } }))).toContain('full_attention');
    expect(refusal(llama({ partial_rotary_factor: 0.5 }))).toContain('partial_rotary_factor 0.5');
    expect(refusal(llama({ rope_parameters: { partial_rotary_factor: 0.5 } }))).toContain('partial_rotary_factor 0.5');
    const both = { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'default' } };
    expect(refusal(llama(both))).toContain('different things');
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
