import type { KernelCall } from '../gpu/kernel.ts';
import type { KernelVariant } from './variant.ts';

/** Threads of one row: four run in lockstep on a software adapter; a GPU gives a workgroup. Of the latter the order of sums. */
export const NORM_LANES = { scalar: 4, wide: 64 } as const;
const WORKGROUP = { scalar: 16, wide: 64 } as const;

export interface RmsNormArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly width: number;
  readonly eps: number;
  /** Added to every weight (gemma: 1). */
  readonly offset: number;
  /** u32; how many rows are in use is its word `countWord`. */
  readonly step: GPUBuffer;
  readonly countWord: number;
  /** Word of `step` from which every second word names the input row of an output row; null: the same row. */
  readonly gather: number | null;
  /** [rows][width] f32 */
  readonly input: GPUBuffer;
  /** [width] f32 */
  readonly weight: GPUBuffer;
  /** [bucket][width] f32; not the input */
  readonly out: GPUBuffer;
  /** Adds to what `out` holds. */
  readonly accumulate: boolean;
}

/** out[r] = x / sqrt(mean(x^2) + eps) * (weight + offset) (+ the old out[r]), x the row's input. */
export function rmsNorm(a: RmsNormArgs): KernelCall {
  const lanes = NORM_LANES[a.variant];
  const workgroup = WORKGROUP[a.variant];
  return {
    label: a.label,
    shader: 'rms_norm.wgsl',
    constants: {
      WIDTH: a.width,
      EPS: a.eps,
      OFFSET: a.offset,
      GATHER: a.gather ?? -1,
      ACCUMULATE: Number(a.accumulate),
      COUNT_WORD: a.countWord,
      LANES: lanes,
      SUM_LANES: lanes,
      WORKGROUP: workgroup,
      WIDE: Number(a.variant === 'wide'),
    },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.input, access: 'read' },
      { buffer: a.weight, access: 'read' },
      { buffer: a.out, access: 'read_write' },
    ],
    workgroups: [Math.ceil((a.bucket * lanes) / workgroup), 1, 1],
    bytes: a.bucket * a.width * (a.accumulate ? 12 : 8) + a.width * 4,
    flops: a.bucket * a.width * 4,
  };
}
