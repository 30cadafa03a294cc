import type { Constants } from '../gpu/shader-source.ts';
import type { KvDtype } from './dtype.ts';

/** Positions of a tile, in all wide kernels. */
export const TILE = 64;
const LEAST_LANES = 64;
const MOST_LANES = 256;
/** So that what a thread has under way stays in registers: eights of keys, and as many of values; and scores. */
const EIGHTS_A_THREAD = 8;
const SCORES_A_THREAD = 2;
/** Eights of dimensions of a key, and values, staged at a time. More do not fit beside as many workgroups on a core. */
const MOST_KEY_EIGHTS = 8;
const VALUE_KEYS: readonly number[] = [32, 16, 8, 4];
/** Bytes of workgroup memory that every adapter has. */
const WORKGROUP_BYTES = 16_384;

/** Bytes of an eight of dimensions in workgroup memory, and of what is known of a KV head at a position. */
const EIGHT_BYTES = { f32: 32, bf16: 16, f16: 16, int8: 8 } as const satisfies Record<KvDtype, number>;
const KV_HEAD_BYTES = { f32: 4, bf16: 4, f16: 4, int8: 12 } as const satisfies Record<KvDtype, number>;

interface Sizes {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly kvDtype: KvDtype;
}

/**
 * Constants of attention_wide.wgsl that shape its workgroups: the most of keys and of values staged at a time, of those that fit. Of groups
 * so large that none does the least: an adapter that has no more memory refuses it.
 */
export function attentionWide(sizes: Sizes): Constants {
  const eights = sizes.headDim / 8;
  const group = sizes.numHeads / sizes.numKvHeads;
  const threads = Math.max((TILE * eights) / EIGHTS_A_THREAD, (TILE * group) / SCORES_A_THREAD, LEAST_LANES);
  const lanes = Math.min(MOST_LANES, 2 ** Math.ceil(Math.log2(threads)));
  const fits = (shape: Constants) => workgroupBytes(shape, sizes) <= WORKGROUP_BYTES;
  const shape = (keyEights: number, valueKeys: number): Constants => ({
    LANES: lanes,
    KEY_EIGHTS: keyEights,
    VALUE_KEYS: valueKeys,
    VALUE_SHARES: Math.min(group, Math.floor(lanes / (sizes.headDim / 2))),
  });
  let keyEights = 1;
  for (let n = 2; n <= MOST_KEY_EIGHTS; n++) if (eights % n === 0 && fits(shape(n, VALUE_KEYS.at(-1)!))) keyEights = n;
  const valueKeys = VALUE_KEYS.find((n) => fits(shape(keyEights, n))) ?? VALUE_KEYS.at(-1)!;
  return shape(keyEights, valueKeys);
}

/** Bytes of workgroup memory that attention_wide.wgsl declares with these constants, as WebGPU counts them. */
export function workgroupBytes(shape: Constants, { numHeads, numKvHeads, headDim, kvDtype }: Sizes): number {
  const group = numHeads / numKvHeads;
  const keyEights = shape.KEY_EIGHTS!;
  const staged = Math.max(TILE * (keyEights + 1 - (keyEights % 2)), (shape.VALUE_KEYS! * headDim) / 8);
  const variables = [
    4 * group * headDim,
    TILE * KV_HEAD_BYTES[kvDtype],
    staged * EIGHT_BYTES[kvDtype],
    4 * group * TILE,
    4 * group,
    4 * group,
  ];
  return variables.reduce((sum, bytes) => sum + Math.ceil(bytes / 16) * 16, 0);
}
