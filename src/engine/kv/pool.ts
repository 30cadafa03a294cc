import { EngineError } from '../api.ts';
import { allocate, mib } from '../gpu/allocate.ts';
import type { ModelSpec } from '../model/spec.ts';

export type KvDtype = 'f32' | 'bf16' | 'f16';

/** K and V of one layer, block-major: [block][token in block][kv head][dim], packed two to a word unless f32. */
export interface KvLayer {
  readonly k: GPUBuffer;
  readonly v: GPUBuffer;
}

export interface KvShape {
  readonly spec: ModelSpec;
  readonly blockSize: number;
  readonly dtype: KvDtype;
}

/** Bytes of one block in one of a layer's two buffers. */
function layerBlockBytes({ spec, blockSize, dtype }: KvShape): number {
  return blockSize * spec.numKvHeads * spec.headDim * (dtype === 'f32' ? 4 : 2);
}

/** Bytes of one block: its K and V in all layers. */
export function blockBytes(shape: KvShape): number {
  return layerBlockBytes(shape) * 2 * shape.spec.layers.length;
}

/**
 * How many blocks fit `budget` bytes and the adapter's binding limit, at most `wanted`.
 * Throws `EngineError` code `out_of_memory` when they would not hold one sequence of `minBlocks` blocks.
 */
export function poolBlocks(
  shape: KvShape,
  limits: GPUSupportedLimits,
  budget: number,
  wanted: number,
  minBlocks: number,
): number {
  const binding = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const blocks = Math.min(wanted, Math.floor(budget / blockBytes(shape)), Math.floor(binding / layerBlockBytes(shape)));
  if (blocks < minBlocks) {
    throw new EngineError(
      'out_of_memory',
      `The KV pool would have ${Math.max(0, blocks)} blocks (${mib(Math.max(0, budget))} left for it, ${mib(blockBytes(shape))} each), but one sequence of --max-model-len needs ${minBlocks}. Lower --max-model-len, or raise --gpu-memory-utilization.`,
    );
  }
  return blocks;
}

/** The GPU memory behind the block manager's ids: one K and one V buffer a layer. */
export async function createPool(device: GPUDevice, shape: KvShape, blocks: number): Promise<KvLayer[]> {
  const bytes = layerBlockBytes(shape) * blocks;
  const sizes: Record<string, number> = {};
  for (const [i] of shape.spec.layers.entries()) {
    sizes[`layer ${i} k`] = bytes;
    sizes[`layer ${i} v`] = bytes;
  }
  const made = await allocate(device, 'KV pool', sizes);
  return shape.spec.layers.map((_, i) => ({ k: made[`layer ${i} k`]!, v: made[`layer ${i} v`]! }));
}
