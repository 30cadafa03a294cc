import { EngineError } from '../api.ts';
import type { KernelCall } from '../gpu/kernel.ts';
import { kvHeadBytes } from './dtype.ts';
import { type PagedArgs, pagedConstants } from './paged.ts';
import type { KernelVariant } from './variant.ts';

/** Threads of one head. */
const LANES = { scalar: 4, wide: 32 } as const;
const WORKGROUP = { scalar: 16, wide: 32 } as const;

export interface RopeKvArgs extends PagedArgs {
  readonly variant: KernelVariant;
  /** Dimensions that turn; even, at most `headDim`. */
  readonly rotaryDim: number;
  /** Multiplies the turned dimensions. */
  readonly attentionFactor: number;
  readonly qkNorm: boolean;
  readonly eps: number;
  /** Added to every norm weight. */
  readonly offset: number;
  /** [bucket][q heads | k heads | v heads][headDim] f32 */
  readonly qkv: GPUBuffer;
  /** [q | k][headDim] f32; any buffer when `qkNorm` is false */
  readonly norms: GPUBuffer;
  /** [rotaryDim / 2] f32: radians a position */
  readonly invFreq: GPUBuffer;
  /** [bucket][numHeads][headDim] f32 */
  readonly q: GPUBuffer;
}

/** q and k: norm of each head (when `qkNorm`), then rotary embedding; q goes to `q`, k and v into their pages. Active rows only. */
export function ropeKv(a: RopeKvArgs): KernelCall {
  if (a.rotaryDim % 2 !== 0 || a.rotaryDim > a.headDim) {
    throw new EngineError('model', `${a.label}: ${a.rotaryDim} rotary dimensions don't fit heads of ${a.headDim}.`);
  }
  const lanes = LANES[a.variant];
  const workgroup = WORKGROUP[a.variant];
  const heads = a.numHeads + 2 * a.numKvHeads;
  return {
    label: a.label,
    shader: 'rope_kv.wgsl',
    constants: {
      ...pagedConstants(a),
      ROTARY_DIM: a.rotaryDim,
      ATTENTION_FACTOR: a.attentionFactor,
      QK_NORM: Number(a.qkNorm),
      EPS: a.eps,
      OFFSET: a.offset,
      LANES: lanes,
      SUM_LANES: lanes,
      WORKGROUP: workgroup,
      WIDE: Number(a.variant === 'wide'),
    },
    bindings: [
      { buffer: a.rows, access: 'read' },
      { buffer: a.blockTable, access: 'read' },
      { buffer: a.qkv, access: 'read' },
      { buffer: a.norms, access: 'read' },
      { buffer: a.invFreq, access: 'read' },
      { buffer: a.q, access: 'read_write' },
      { buffer: a.kPool, access: 'read_write' },
      { buffer: a.vPool, access: 'read_write' },
    ],
    workgroups: [Math.ceil((heads * lanes) / workgroup), a.bucket, 1],
    bytes: a.bucket * (a.headDim * (heads + a.numHeads) * 4 + 2 * a.numKvHeads * kvHeadBytes(a.kvDtype, a.headDim)),
    flops: a.bucket * a.headDim * (a.numHeads + a.numKvHeads) * (a.qkNorm ? 7 : 3),
  };
}
