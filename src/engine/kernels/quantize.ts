import type { KernelCall } from '../gpu/kernel.ts';
import { DTYPE_CODE, FLOAT_BYTES, type FloatDtype } from './dtype.ts';

const WORKGROUP = 64;
/** Workgroups in one row of them; a dispatch takes at most 65,535 in each dimension. */
const MAX_GRID = 32_768;

export interface QuantizeArgs {
  readonly label: string;
  readonly rows: number;
  readonly k: number;
  /** Of `source`. */
  readonly dtype: FloatDtype;
  readonly bits: 8 | 4;
  /** u32: rows, first row in `weight`, k, word of `weight` where its scales begin, `threads` of the call. */
  readonly place: GPUBuffer;
  /** [rows][k] as stored */
  readonly source: GPUBuffer;
  /** Blocks of 32 with f16 scales (lib/blocks.wgsl). */
  readonly weight: GPUBuffer;
}

/** Rows of floats to integers in blocks. `threads`: of one row of workgroups. */
export function quantizeRows(a: QuantizeArgs): KernelCall & { readonly threads: number } {
  const groups = Math.ceil((a.rows * Math.ceil(a.k / 64)) / WORKGROUP);
  const grid = Math.min(groups, MAX_GRID);
  return {
    label: a.label,
    shader: 'quantize.wgsl',
    constants: { DTYPE: DTYPE_CODE[a.dtype], BITS: a.bits, WORKGROUP },
    bindings: [
      { buffer: a.place, access: 'read' },
      { buffer: a.source, access: 'read' },
      { buffer: a.weight, access: 'read_write' },
    ],
    workgroups: [grid, Math.ceil(groups / grid), 1],
    bytes: a.rows * a.k * (FLOAT_BYTES[a.dtype] + a.bits / 8),
    flops: a.rows * a.k * (a.bits === 8 ? 2 : 100),
    threads: grid * WORKGROUP,
  };
}
