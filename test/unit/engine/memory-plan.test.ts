import { describe, expect, test } from 'vitest';
import { type EngineOptions, planOf } from '../../../src/engine/create-engine.ts';
import { mib } from '../../../src/engine/gpu/allocate.ts';
import type { Gpu } from '../../../src/engine/gpu/device.ts';
import { layerBlockBytes } from '../../../src/engine/kv/pool.ts';
import { engineBufferSizes } from '../../../src/engine/model/activations.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { weightRoom } from '../../../src/engine/model/memory.ts';
import type { ModelSpec } from '../../../src/engine/model/spec.ts';
import type { LoadedWeights } from '../../../src/engine/weights/loaded.ts';
import type { PlannedWeight } from '../../../src/engine/weights/parts.ts';
import type { TensorInfo } from '../../../src/engine/weights/tensor-types.ts';
import { type QuantizationOption, WeightPlan } from '../../../src/engine/weights/weight-plan.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** Sizes of the published checkpoints, from their config.json. */
const qwen3 = (hidden: number, mlp: number, layers: number, heads: number, tied = true) =>
  modelSpec({
    model_type: 'qwen3',
    vocab_size: 151_936,
    hidden_size: hidden,
    intermediate_size: mlp,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 40_960,
    rope_theta: 1_000_000,
    tie_word_embeddings: tied,
  });
const SMALL = qwen3(1024, 3072, 28, 16);
const LARGE = qwen3(2560, 9728, 36, 32);

/** The options table's defaults. */
const DEFAULTS: EngineOptions = {
  engines: 1,
  blockSize: 16,
  kvCacheDtype: 'auto',
  maxModelLen: null,
  maxNumSeqs: 32,
  maxNumBatchedTokens: null,
  numGpuBlocksOverride: null,
  maxLoras: 0,
  maxLoraRank: 16,
  gpuMemoryUtilization: null,
  enablePrefixCaching: true,
  enforceEager: false,
  batchInvariant: true,
  speculation: null,
  freeOrder: null,
};

/** Every buffer of the weights, as loading plans them from a bf16 checkpoint. */
function partsOf(spec: ModelSpec, quantization: QuantizationOption, maxBufferBytes: number): PlannedWeight[] {
  const tensors = spec.weights.flatMap(({ sources, cols }) =>
    sources.map(({ name, rows }): TensorInfo => {
      return { name, dtype: 'BF16', shape: cols === 1 ? [rows] : [rows, cols], begin: 0, end: 0 };
    }),
  );
  const plan = new WeightPlan(spec, { quantization, maxBufferBytes });
  const parts = [...new Set(plan.place(tensors, 'model').flatMap((placement) => placement?.parts ?? []))];
  plan.finish('model');
  expect(parts.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(plan.bytes);
  return parts;
}

/** What an engine of these weights would get from an adapter: every buffer is within its limits. */
function divide(
  spec: ModelSpec,
  quantization: QuantizationOption,
  limits: { maxBufferSize: number; maxStorageBufferBindingSize: number },
  options: Partial<EngineOptions> = {},
) {
  const limit = Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
  const parts = partsOf(spec, quantization, limit);
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  const all = { ...DEFAULTS, ...options };
  expect(bytes, 'refused by the loader').toBeLessThanOrEqual(weightRoom(spec, all, { ...limits, software: false }));
  const weights = { bytes, parts: () => [{ dtype: parts[0]!.dtype }] } as unknown as LoadedWeights;
  const gpu = { adapter: { software: false }, device: { limits } } as unknown as Gpu;
  const plan = planOf({ gpu, spec, weights, options: all });
  const buffers = Object.values(engineBufferSizes(spec, plan.sizes, plan.variant));
  const largest = Math.max(...parts.map((part) => part.bytes), ...buffers, layerBlockBytes(plan.kvShape) * plan.blocks);
  expect(largest).toBeLessThanOrEqual(limit);
  const kv = layerBlockBytes(plan.kvShape) * 2 * spec.layers.length * plan.blocks;
  return { plan, parts, bytes, total: bytes + kv + buffers.reduce((a, b) => a + b, 0) };
}

/** What Chrome says of every adapter on Windows. */
const TWO_GIB = { maxBufferSize: 2 * GIB, maxStorageBufferBindingSize: 2 * GIB };

describe('a model that is larger than a buffer', () => {
  test('4 billion parameters as int4 with default options, in buffers of 2 GiB', () => {
    const { plan, bytes, total } = divide(LARGE, 'int4', TWO_GIB);
    expect(bytes).toBeGreaterThan(2 * GIB);
    expect(total).toBeLessThanOrEqual(1.8 * 2 * GIB);
    // A context shorter than the model's 40,960 tokens, but one to work with.
    expect(plan.blocks * 16).toBeGreaterThanOrEqual(8000);
    expect(plan.maxModelLen).toBe(Math.min(40_960, plan.blocks * 16));
    expect(plan.longest).toBe(40_960);
  });

  test('the same with bindings of 128 MiB, the least that WebGPU promises: matrices are in parts', () => {
    const { plan, parts } = divide(LARGE, 'int4', { ...TWO_GIB, maxStorageBufferBindingSize: 128 * MIB });
    const embedding = parts.filter(({ spec }) => spec.role === 'embed');
    expect(embedding).toHaveLength(2);
    expect(embedding.reduce((sum, { outputs }) => sum + outputs, 0)).toBe(151_936);
    expect(plan.maxModelLen).toBeGreaterThanOrEqual(8000);
  });

  test('0.6 billion parameters as bf16 with bindings of 128 MiB: the embedding of 311 MB is in three', () => {
    const { plan, parts } = divide(SMALL, 'none', { maxBufferSize: GIB, maxStorageBufferBindingSize: 128 * MIB });
    expect(parts.filter(({ spec }) => spec.role === 'embed')).toHaveLength(3);
    expect(new Set(parts.map(({ spec }) => `${spec.role} ${spec.layer}`)).size).toBe(parts.length - 2);
    expect(plan.maxModelLen).toBeGreaterThanOrEqual(1024);
  });

  test('a head of its own and gate and up of 8 billion parameters are in parts too', () => {
    const parts = partsOf(qwen3(4096, 12_288, 36, 32, false), 'none', 128 * MIB);
    const count = (role: string, layer: number | null) =>
      parts.filter(({ spec }) => spec.role === role && spec.layer === layer).length;
    expect([count('embed', null), count('lmHead', null), count('gateUp', 3), count('down', 3)]).toEqual([10, 10, 2, 1]);
    for (const part of parts) expect(part.bytes, mib(part.bytes)).toBeLessThanOrEqual(128 * MIB);
  });
});

describe('how much of a memory that nobody tells is taken', () => {
  const FOUR_GIB = { maxBufferSize: 4 * GIB - 4, maxStorageBufferBindingSize: 2 * GIB - 4 };

  test('where a model fits, as many blocks as the usual part holds, and its context follows', () => {
    const { plan, total } = divide(SMALL, 'none', FOUR_GIB);
    expect(total).toBeLessThanOrEqual(0.9 * 4 * GIB);
    expect(total).toBeGreaterThan(0.85 * 4 * GIB);
    expect(plan.maxModelLen).toBeGreaterThan(8192);
    expect(plan.maxModelLen).toBeLessThan(40_960);
  });

  test('a length that is asked for is given, with more than the usual if need be, or refused with numbers', () => {
    expect(divide(SMALL, 'none', FOUR_GIB, { maxModelLen: 40_960 }).plan.maxModelLen).toBe(40_960);
    const refused = () => divide(LARGE, 'int4', FOUR_GIB, { maxModelLen: 40_960 });
    expect(refused).toThrow(/refused by the loader/);
    expect(divide(LARGE, 'int4', FOUR_GIB, { maxModelLen: 16_384 }).plan.maxModelLen).toBe(16_384);
  });

  test('whoever knows that there is more says so', () => {
    const { plan } = divide(LARGE, 'int4', TWO_GIB, { gpuMemoryUtilization: 8 });
    expect(plan.maxModelLen).toBe(40_960);
    expect(() => divide(LARGE, 'int4', TWO_GIB, { gpuMemoryUtilization: 1 })).toThrow(/refused by the loader/);
  });
});
