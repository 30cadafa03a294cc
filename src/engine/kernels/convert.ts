import type { KernelCall } from '../gpu/kernel.ts';
import { DTYPE_CODE, FLOAT_BYTES, type FloatDtype } from './dtype.ts';

const WORKGROUP = 64;
/** Workgroups in one row of them; a dispatch takes at most 65,535 in each dimension. */
const MAX_GRID = 32_768;

export interface ConvertArgs {
  readonly label: string;
  /** Of numbers in `source`. */
  readonly pairs: number;
  readonly from: FloatDtype;
  readonly to: FloatDtype;
  /** u32: pairs, pairs before them in `weight`, `threads` of the call. */
  readonly place: GPUBuffer;
  readonly source: GPUBuffer;
  readonly weight: GPUBuffer;
  /** One u32, raised by the numbers that a f16 cannot hold. */
  readonly clamped: GPUBuffer;
}

/** Floats to floats of another kind, in their order. `threads`: of one row of workgroups. */
export function convertFloats(a: ConvertArgs): KernelCall & { readonly threads: number } {
  const groups = Math.ceil(a.pairs / WORKGROUP);
  const grid = Math.min(groups, MAX_GRID);
  return {
    label: a.label,
    shader: 'convert.wgsl',
    constants: { FROM: DTYPE_CODE[a.from], TO: DTYPE_CODE[a.to], WORKGROUP },
    bindings: [
      { buffer: a.place, access: 'read' },
      { buffer: a.source, access: 'read' },
      { buffer: a.weight, access: 'read_write' },
      { buffer: a.clamped, access: 'read_write' },
    ],
    workgroups: [grid, Math.ceil(groups / grid), 1],
    bytes: 2 * a.pairs * (FLOAT_BYTES[a.from] + FLOAT_BYTES[a.to]),
    flops: 0,
    threads: grid * WORKGROUP,
  };
}
