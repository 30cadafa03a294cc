import { EngineError } from '../api.ts';
import { allocate, mib } from '../gpu/allocate.ts';
import { type KvDtype, kvHeadBytes } from '../kernels/dtype.ts';
import type { ModelSpec } from '../model/spec.ts';

/** K and V of one layer, block-major: [block][token in block][kv head][dim], and behind a block of int8 its scales (`shaders/lib/kv.wgsl`). */
export interface KvLayer {
  readonly k: GPUBuffer;
  readonly v: GPUBuffer;
}

export interface KvShape {
  readonly spec: ModelSpec;
  readonly blockSize: number;
  readonly dtype: KvDtype;
}

/** Bytes of one block in one of a layer's two buffers: a multiple of 16, whatever the dtype. */
export function layerBlockBytes({ spec, blockSize, dtype }: KvShape): number {
  return blockSize * spec.numKvHeads * kvHeadBytes(dtype, spec.headDim);
}

/** Bytes of one block: its K and V in all layers. */
export function blockBytes(shape: KvShape): number {
  return layerBlockBytes(shape) * 2 * shape.spec.layers.length;
}

/** How many blocks an engine asks for. */
export interface PoolWish {
  /** Exactly so many (`--num-gpu-blocks-override`); null = what fits, from `least` to `most`. */
  readonly override: number | null;
  /** As many as can be used. */
  readonly most: number;
  /** Blocks of one sequence: so many are worth memory above the usual, */
  readonly wanted: number;
  /** and without so many there is no engine. */
  readonly least: number;
}

/** Bytes for a pool: what it takes at will, and the most that it may take for one sequence. */
export interface PoolBudget {
  readonly usual: number;
  readonly most: number;
}

/** How many blocks the pool gets of the budget and the adapter's binding limit. Throws `EngineError` code `out_of_memory` with numbers. */
export function poolBlocks(
  shape: KvShape,
  limits: Pick<GPUSupportedLimits, 'maxBufferSize' | 'maxStorageBufferBindingSize'>,
  budget: PoolBudget,
  { override, most, wanted, least }: PoolWish,
): number {
  const binding = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const within = (bytes: number) =>
    Math.max(0, Math.min(Math.floor(bytes / blockBytes(shape)), Math.floor(binding / layerBlockBytes(shape))));
  const stretched = Math.min(override ?? wanted, within(budget.most));
  const blocks = Math.max(Math.min(override ?? most, within(budget.usual)), stretched);
  if (blocks >= (override ?? least)) return blocks;
  const needs = override === null ? `one sequence needs ${least}` : `--num-gpu-blocks-override is ${override}`;
  throw new EngineError(
    'out_of_memory',
    `The KV pool would have ${blocks} blocks (${mib(Math.max(0, budget.most))} left for it, ${mib(blockBytes(shape))} each), but ${needs}. ` +
      `Lower ${override === null ? '--max-model-len' : '--num-gpu-blocks-override'}, --max-num-seqs or --max-num-batched-tokens, or raise --gpu-memory-utilization.`,
  );
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
