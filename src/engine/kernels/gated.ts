import type { KernelCall } from '../gpu/kernel.ts';

const WORKGROUP = 64;

export interface GatedArgs {
  readonly label: string;
  /** Rows to dispatch. */
  readonly bucket: number;
  /** Columns of `out` that are computed. */
  readonly n: number;
  /** Where `out` has more columns than n: those that are written begin at `first`, of `of`. */
  readonly columns: { readonly first: number; readonly of: number };
  readonly activation: 'silu' | 'gelu_tanh';
  /** u32; how many rows are in use is its word `countWord`. */
  readonly step: GPUBuffer;
  readonly countWord: number;
  /** [bucket][2 columns.of] f32: from column 2 columns.first on n gates, then their n ups */
  readonly gateUp: GPUBuffer;
  /** [bucket][columns.of] f32 */
  readonly out: GPUBuffer;
}

/** out[r][first + j] = act(gate j) * up j: the second half of a `gateUp` product (or a part of one) whose columns were changed between. */
export function gated(a: GatedArgs): KernelCall {
  return {
    label: a.label,
    shader: 'gated.wgsl',
    constants: { COUNT_WORD: a.countWord, WORKGROUP, GELU: Number(a.activation === 'gelu_tanh') },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.gateUp, access: 'read' },
      { buffer: a.out, access: 'read_write' },
    ],
    params: [a.n, a.columns.first, a.columns.of],
    workgroups: [Math.ceil(a.n / WORKGROUP), a.bucket, 1],
    bytes: a.bucket * a.n * 12,
    flops: a.bucket * a.n * 6,
  };
}
