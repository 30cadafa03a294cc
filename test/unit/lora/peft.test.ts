import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { PeftAdapter } from '../../../src/engine/lora/peft.ts';
import { loraBytes, loraProducts } from '../../../src/engine/lora/sites.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import type { TensorInfo } from '../../../src/engine/weights/tensor-types.ts';
import { llama, SIZES } from '../model/configs.ts';

const spec = modelSpec(llama());
const products = loraProducts(spec);
const CONFIG = { peft_type: 'LORA', r: 4, lora_alpha: 8, target_modules: ['q_proj', 'down_proj'] };

/** Both tensors of a module of every layer (or of some), of rank 4 unless said. */
function tensors(
  modules: Readonly<Record<string, readonly [inputs: number, outputs: number]>>,
  layers = [0, 1, 2],
  r = 4,
) {
  return layers.flatMap((layer) =>
    Object.entries(modules).flatMap(([module, [inputs, outputs]]) => {
      const name = `base_model.model.model.layers.${layer}.${module}`;
      return [tensor(`${name}.lora_A.weight`, [r, inputs]), tensor(`${name}.lora_B.weight`, [outputs, r])];
    }),
  );
}

function tensor(name: string, shape: number[]): TensorInfo {
  return { name, dtype: 'F32', shape, begin: 0, end: 0 };
}

const Q = { 'self_attn.q_proj': [64, 64] } as const;
const DOWN = { 'mlp.down_proj': [160, 64] } as const;
const BOTH = tensors({ ...Q, ...DOWN });

function place(config: unknown, given: readonly TensorInfo[] = BOTH, maxRank = 16) {
  return new PeftAdapter('mine', config, products, maxRank).place(given);
}

function refusal(config: unknown, given?: readonly TensorInfo[], maxRank?: number): string {
  try {
    place(config, given, maxRank);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    expect(error.code).toBe('model');
    expect(error.message).toContain('LoRA adapter mine: adapter_');
    return error.message;
  }
  throw new Error('was not refused');
}

describe('what an adapter adds, and where', () => {
  test('each tensor has its product, target, rank and scale', () => {
    const placed = place(CONFIG);
    expect(placed).toHaveLength(12);
    expect(
      placed.map(({ part, matrix }) => `${part.product.layer} ${part.product.site} ${part.target} ${matrix}`),
    ).toEqual(
      [0, 1, 2].flatMap((layer) => [`${layer} qkv 0 A`, `${layer} qkv 0 B`, `${layer} down 0 A`, `${layer} down 0 B`]),
    );
    expect(placed[0]!.part).toMatchObject({ rank: 4, scale: 2 });
  });

  test('use_rslora divides by the root of the rank', () => {
    expect(place({ ...CONFIG, use_rslora: true })[0]!.part.scale).toBe(4);
  });

  test('patterns give modules a rank and an alpha of their own', () => {
    const given = [...tensors(Q, [0, 2]), ...tensors(Q, [1], 2), ...tensors(DOWN)];
    const config = {
      ...CONFIG,
      rank_pattern: { 'model.layers.1.self_attn.q_proj': 2 },
      alpha_pattern: { down_proj: 1, '2.self_attn.q_proj': 12 },
    };
    const scales = new Map(
      place(config, given).map(({ part }) => [`${part.product.layer} ${part.product.site}`, [part.rank, part.scale]]),
    );
    expect(Object.fromEntries(scales)).toEqual({
      '0 qkv': [4, 2],
      '1 qkv': [2, 4],
      '2 qkv': [4, 3],
      ...{ '0 down': [4, 0.25], '1 down': [4, 0.25], '2 down': [4, 0.25] },
    });
  });

  test('some layers alone, and a rule in the place of names', () => {
    expect(place({ ...CONFIG, layers_to_transform: [1] }, tensors({ ...Q, ...DOWN }, [1]))).toHaveLength(4);
    expect(place({ ...CONFIG, layers_to_transform: 2 }, tensors({ ...Q, ...DOWN }, [2]))).toHaveLength(4);
    expect(place({ ...CONFIG, target_modules: 'all-linear' })).toHaveLength(12);
    expect(place({ ...CONFIG, target_modules: '.*(q|down)_proj' })).toHaveLength(12);
  });

  test('fused projections are targets of their own names', () => {
    const phi = modelSpec({ ...llama(), model_type: 'phi3', pad_token_id: 0 });
    const modules = new Set(loraProducts(phi).flatMap(({ targets }) => targets.map(({ module }) => module)));
    expect([...modules]).toEqual(['self_attn.qkv_proj', 'self_attn.o_proj', 'mlp.gate_up_proj', 'mlp.down_proj']);
  });

  test('layers of experts have targets in attention alone', () => {
    const moe = modelSpec({
      ...SIZES,
      model_type: 'qwen3_moe',
      head_dim: 32,
      num_experts: 4,
      num_experts_per_tok: 2,
      mlp_only_layers: [1],
    });
    expect(loraProducts(moe).map(({ layer, site }) => `${layer} ${site}`)).toEqual([
      ...['0 qkv', '0 oProj'],
      ...['1 qkv', '1 oProj', '1 gateUp', '1 down'],
      ...['2 qkv', '2 oProj'],
    ]);
    const expert = 'base_model.model.model.layers.0.mlp.experts.1.up_proj.lora_A.weight';
    expect(() => new PeftAdapter('mine', CONFIG, loraProducts(moe), 16).place([tensor(expert, [4, 64])])).toThrow(
      /experts\.1\.up_proj.*Adapters of experts are not supported/,
    );
  });

  test('bytes are those of all adapters, at the highest rank', () => {
    // A: 3 + 1 + 2 targets of 64 columns, one of 160; B: 64 + 32 + 32, 64, 320 and 64 columns.
    const values = 8 * (6 * 64 + 160) + 8 * (128 + 64 + 320 + 64);
    expect(loraBytes(spec, { adapters: 2, rank: 8 })).toBe(2 * 3 * 4 * values);
  });
});

describe('is refused by name', () => {
  test.each([
    ['peft_type', { peft_type: 'LOHA' }],
    ['bias', { bias: 'lora_only' }],
    ['modules_to_save', { modules_to_save: ['lm_head'] }],
    ['use_dora', { use_dora: true }],
    ['fan_in_fan_out', { fan_in_fan_out: true }],
    ['lora_bias', { lora_bias: true }],
    ['layer_replication', { layer_replication: [[0, 1]] }],
    ['trainable_token_indices', { trainable_token_indices: [1] }],
    ['target_parameters', { target_parameters: ['x'] }],
    ['r:', { r: 0 }],
    ['lora_alpha', { lora_alpha: 'much' }],
    ['rank_pattern: "^model', { rank_pattern: { '^model.*q_proj': 2 } }],
    ['"embed_tokens"', { target_modules: ['embed_tokens'] }],
    ['target_modules names "v_proj", and layer 0.self_attn.v_proj', { target_modules: ['q_proj', 'v_proj'] }],
  ])('%s', (name, config) => {
    expect(refusal({ ...CONFIG, ...config })).toContain(name);
  });

  test('what saved configs hold without meaning anything is no hindrance', () => {
    const saved = {
      ...CONFIG,
      bias: 'none',
      modules_to_save: null,
      use_dora: false,
      fan_in_fan_out: false,
      layer_replication: null,
    };
    expect(place({ ...saved, rank_pattern: {}, alpha_pattern: {}, loftq_config: {}, lora_dropout: 0.1 })).toHaveLength(
      12,
    );
  });

  test('a rank above --max-lora-rank', () => {
    expect(refusal(CONFIG, BOTH, 2)).toContain('its rank is 4, and there is room for 2. Raise --max-lora-rank');
  });

  test.each([
    ['base_model.model.lm_head.lora_A.weight', 'embeddings and of the head are not supported'],
    ['base_model.model.model.embed_tokens.lora_embedding_A', 'embeddings and of the head are not supported'],
    ['base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector', 'nothing that an adapter can change'],
    ['base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight', 'nothing that an adapter can change'],
    ['base_model.model.model.layers.0.self_attn.q_proj.bias', 'nothing that an adapter can change'],
    ['base_model.model.model.layers.00.mlp.router.lora_A.weight', 'nothing that an adapter can change'],
  ])('tensor %s', (name, why) => {
    const message = refusal(CONFIG, [...BOTH, tensor(name, [4, 64])]);
    expect(message).toContain(name);
    expect(message).toContain(why);
  });

  test('a shape of another model, half a pair, and no tensors at all', () => {
    const [first, ...others] = BOTH;
    expect(refusal(CONFIG, [{ ...first!, shape: [4, 128] }, ...others])).toContain('q_proj.lora_A.weight is [4,128]');
    expect(refusal(CONFIG, others)).toContain('layer 0.self_attn.q_proj has only one of lora_A and lora_B');
    expect(refusal(CONFIG, [])).toContain('it has no tensors');
  });
});
