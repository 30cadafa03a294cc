import type { KernelCall } from '../gpu/kernel.ts';
import { SLOT_LORA, SLOT_STRIDE } from '../tables.ts';
import type { KernelVariant } from './variant.ts';

/** Lanes that share a sum (wide). A constant of the order of sums: to change it changes every answer's last bits. */
const LANES = 64;
const WORKGROUP = 64;
/** Rows from which neighbours are taken together, so that an adapter is read less often. */
const MANY_ROWS = 64;

export interface LoraArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Rows to dispatch. */
  readonly bucket: number;
  /** [bucket] vec4<u32>(slot, position, token, active) */
  readonly rows: GPUBuffer;
  /** The slots table: which adapter a row goes through. */
  readonly slots: GPUBuffer;
  /** Of each adapter, a multiple of 4; lower ones are filled up with zeros. */
  readonly rank: number;
}

export interface LoraShrinkArgs extends LoraArgs {
  /** Columns of `input`. */
  readonly inputs: number;
  /** Parts of the product's columns that have matrices of their own. */
  readonly targets: number;
  /** [bucket][inputs] f32 */
  readonly input: GPUBuffer;
  /** [adapter][target][rank][inputs] f32 */
  readonly a: GPUBuffer;
  /** [bucket][target][rank] f32 */
  readonly out: GPUBuffer;
}

/** out[r][t][i] = input[r] . a[adapter of r][t][i], for rows with an adapter. */
export function loraShrink(s: LoraShrinkArgs): KernelCall {
  const wide = s.variant === 'wide';
  const columns = s.targets * s.rank;
  const tile =
    wide && s.bucket < MANY_ROWS ? { ROWS: 1, COLUMNS: 1 } : { ROWS: s.bucket < MANY_ROWS ? 1 : 4, COLUMNS: 4 };
  const tiles = columns / tile.COLUMNS;
  return {
    label: s.label,
    shader: 'lora_shrink.wgsl',
    constants: {
      QUADS: Number(s.inputs % 4 === 0),
      ...tile,
      LANES: wide ? LANES : 1,
      WORKGROUP: wide ? LANES : WORKGROUP,
      WIDE: Number(wide),
      SLOT_STRIDE,
      SLOT_LORA,
    },
    bindings: [
      { buffer: s.rows, access: 'read' },
      { buffer: s.slots, access: 'read' },
      { buffer: s.input, access: 'read' },
      { buffer: s.a, access: 'read' },
      { buffer: s.out, access: 'read_write' },
    ],
    params: [s.inputs, columns],
    workgroups: [wide ? tiles : Math.ceil(tiles / WORKGROUP), s.bucket / tile.ROWS, 1],
    bytes: columns * s.inputs * 4 + s.bucket * (s.inputs + columns) * 4,
    flops: 2 * s.bucket * columns * s.inputs,
  };
}

/** Columns of a product, and where a buffer keeps them. */
export interface ColumnRun {
  readonly begin: number;
  readonly at: number;
  readonly count: number;
}

export interface LoraExpandArgs extends LoraArgs {
  readonly columns: number;
  /** Those that are computed. */
  readonly run: ColumnRun;
  /** First column of each target, ascending from 0; three at most. */
  readonly firstColumns: readonly number[];
  /** [bucket][target][rank] f32 */
  readonly shrunk: GPUBuffer;
  /** [adapter][rank][columns] f32 */
  readonly b: GPUBuffer;
  /** [bucket][columns] f32 */
  readonly out: GPUBuffer;
}

/** out[r][at + c] += shrunk[r][target of j] . b[adapter of r][..][j], j = begin + c, for rows with an adapter. */
export function loraExpand(e: LoraExpandArgs): KernelCall {
  const ROWS = e.bucket < MANY_ROWS ? 1 : 4;
  const [, second = e.columns, third = e.columns] = e.firstColumns;
  const { begin, at, count } = e.run;
  const stride = e.firstColumns.length * e.rank;
  return {
    label: e.label,
    shader: 'lora_expand.wgsl',
    constants: { ROWS, WORKGROUP, SLOT_STRIDE, SLOT_LORA },
    bindings: [
      { buffer: e.rows, access: 'read' },
      { buffer: e.slots, access: 'read' },
      { buffer: e.shrunk, access: 'read' },
      { buffer: e.b, access: 'read' },
      { buffer: e.out, access: 'read_write' },
    ],
    params: [e.rank, e.columns, stride, second, third, begin, at, count],
    workgroups: [Math.ceil(count / WORKGROUP), e.bucket / ROWS, 1],
    bytes: e.rank * count * 4 + e.bucket * (stride + 2 * count) * 4,
    flops: 2 * e.bucket * count * e.rank,
  };
}
