import type { Binding } from '../gpu/kernel.ts';
import type { Constants } from '../gpu/shader-source.ts';
import { DTYPE_CODE, FLOAT_BYTES, type FloatDtype } from './dtype.ts';
import type { KernelVariant } from './variant.ts';

/** Column tiles in one row of workgroups; a dispatch takes at most 65,535 in each dimension. */
const MAX_GRID = 32_768;
/** Threads of a workgroup. A software adapter gives each workgroup to one core, so that small ones share a product evenly. */
const WORKGROUP = { scalar: 16, wide: 64 } as const;

export interface ProductArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Rows to dispatch. */
  readonly bucket: number;
  /** Columns of `out`. */
  readonly n: number;
  /** Columns of `input` and of the weight. */
  readonly k: number;
  readonly dtype: FloatDtype;
  /** u32; how many rows are in use is its word `countWord`. */
  readonly step: GPUBuffer;
  readonly countWord: number;
  /** [bucket][k] f32 */
  readonly input: GPUBuffer;
  /** [lines][k] as stored */
  readonly weight: GPUBuffer;
  /** [bucket][n] f32 */
  readonly out: GPUBuffer;
}

/** What matmul and gate-up share: tile shape, bindings 0 to 3, workgroups, cost. `lines`: weight rows of one output column. */
export function product(
  a: ProductArgs,
  lines: number,
): {
  readonly constants: Constants;
  readonly bindings: readonly Binding[];
  readonly params: readonly number[];
  readonly workgroups: readonly [number, number, number];
  readonly bytes: number;
  readonly flops: number;
} {
  const wide = a.variant === 'wide';
  const workgroup = WORKGROUP[a.variant];
  // 8 x 8 outputs a thread are fastest on SwiftShader; for one row, 4 columns leave more threads. Few tile heights,
  // since each is a shader of its own to compile, and these are the largest ones.
  const rows = a.bucket === 1 ? 1 : a.bucket <= 4 || wide ? 4 : 8;
  const columns = wide || rows === 1 ? 4 : 8;
  const width = columns / lines;
  const columnsPerGroup = width * (wide ? 1 : workgroup);
  const groups = Math.ceil(a.n / columnsPerGroup);
  const grid = Math.min(groups, MAX_GRID);
  return {
    constants: {
      QUADS: Number(a.k % 8 === 0),
      DTYPE: DTYPE_CODE[a.dtype],
      ROWS: rows,
      COLUMNS: columns,
      WIDTH: width,
      LANES: wide ? workgroup : 1,
      WORKGROUP: workgroup,
      WIDE: Number(wide),
    },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.input, access: 'read' },
      { buffer: a.weight, access: 'read' },
      { buffer: a.out, access: 'read_write' },
    ],
    params: [a.n, a.k, grid, a.countWord],
    workgroups: [grid, Math.ceil(groups / grid), Math.ceil(a.bucket / rows)],
    bytes: a.n * lines * a.k * FLOAT_BYTES[a.dtype] + a.bucket * (a.k + a.n) * 4,
    flops: 2 * a.bucket * a.n * lines * a.k,
  };
}
