import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { type KvShape, poolBlocks } from '../../../src/engine/kv/pool.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';

// Two layers of 2 heads of 16, 16 tokens a block, f16: 1,024 bytes for K of a layer, 4,096 for a block.
const spec = modelSpec({
  model_type: 'llama',
  vocab_size: 64,
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  intermediate_size: 128,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-6,
});
const shape: KvShape = { spec, blockSize: 16, dtype: 'f16' };
const limits = (bytes: number) => ({ maxBufferSize: bytes, maxStorageBufferBindingSize: bytes });
const blocks = (usual: number, override: number | null = null, binding = 1 << 30, most = usual) =>
  poolBlocks(shape, limits(binding), { usual, most }, { override, most: 64, wanted: 48, least: 32 });

describe('how many blocks the pool gets', () => {
  test('what fits the budget and one binding, at most what can be used', () => {
    expect(blocks(40 * 4096 + 4095)).toBe(40);
    expect(blocks(1 << 30)).toBe(64);
    expect(blocks(1 << 30, null, 50 * 1024)).toBe(50);
  });

  test('less than one longest sequence is refused with numbers', () => {
    expect(() => blocks(31 * 4096)).toThrow(EngineError);
    expect(() => blocks(31 * 4096)).toThrow(/31 blocks.*one sequence needs 32/);
    expect(() => blocks(-5)).toThrow(/0 blocks \(0\.00 MiB left/);
  });

  test('more than the usual is taken for one sequence, and no more', () => {
    const usual = 20 * 4096;
    expect(blocks(usual, null, 1 << 30, 1 << 30)).toBe(48);
    expect(blocks(usual, null, 1 << 30, 40 * 4096)).toBe(40);
    expect(() => blocks(usual, null, 1 << 30, 31 * 4096)).toThrow(/31 blocks \(0\.12 MiB left.*one sequence needs 32/);
    expect(blocks(60 * 4096, null, 1 << 30, 1 << 30)).toBe(60);
    expect(blocks(usual, 64, 1 << 30, 64 * 4096)).toBe(64);
    expect(() => blocks(-1, null, 1 << 30, -1)).toThrow(/0 blocks/);
  });

  test('an override is taken exactly or refused', () => {
    expect(blocks(1 << 30, 3)).toBe(3);
    expect(blocks(1 << 30, 200)).toBe(200);
    expect(() => blocks(199 * 4096, 200)).toThrow(/199 blocks.*--num-gpu-blocks-override is 200/);
  });
});
