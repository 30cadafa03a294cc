import type { Binding } from '../gpu/kernel.ts';
import type { Constants } from '../gpu/shader-source.ts';
import { bytesPerValue, DTYPE_CODE, isBlockDtype, type WeightDtype } from './dtype.ts';
import type { KernelVariant } from './variant.ts';

/** Column tiles in one row of workgroups; a dispatch takes at most 65,535 in each dimension. */
const MAX_GRID = 32_768;
/** Runs of k whose sums a wide product adds (lib/tile.wgsl). A constant of the order of sums: to change it changes every answer's last bits. */
const SEGMENTS = 16;
/** Threads of a workgroup. A software adapter gives each workgroup to one core, so that small ones share a product evenly. */
const WORKGROUP = { scalar: 16, wide: 256 } as const;

export interface ProductArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Products of many rows may be computed by matrix instructions; not unless said. */
  readonly matrices?: boolean;
  /** Rows to dispatch. */
  readonly bucket: number;
  /** Columns of `out` that are computed. */
  readonly n: number;
  /** Where `out` (and a bias) have more columns than n: those that are written begin at `first`, of `of`. */
  readonly columns?: { readonly first: number; readonly of: number };
  /** Columns of `input` and of the weight. */
  readonly k: number;
  readonly dtype: WeightDtype;
  /** Word of `weight` where its scales begin; of weights in blocks only. */
  readonly scalesAt?: number;
  /** u32; how many rows are in use is its word `countWord`. */
  readonly step: GPUBuffer;
  readonly countWord: number;
  /** [bucket][k] f32 */
  readonly input: GPUBuffer;
  /** [lines][k] as stored */
  readonly weight: GPUBuffer;
  /** [bucket][n or columns.of] f32 */
  readonly out: GPUBuffer;
}

export type ProductKind = 'lanes' | 'block' | 'matrix';

/** What the kernels of a product share, whichever of them computes it. */
export interface Product {
  /** Which kind of shader computes it: the lanes of a workgroup together, blocks of rows, or blocks by matrix instructions. */
  readonly kind: ProductKind;
  /** Rows, and columns of `out`, of one workgroup. */
  readonly tile: { readonly rows: number; readonly columns: number };
  readonly constants: Constants;
  readonly bindings: readonly Binding[];
  readonly params: readonly number[];
  readonly workgroups: readonly [number, number, number];
  readonly bytes: number;
  readonly flops: number;
}

/**
 * Tile shape, bindings 0 to 3, workgroups and cost of a product. `lines`: weight rows of one output column. Many rows are computed in
 * blocks whose operands are staged in workgroup memory, few by the lanes of a workgroup together: with the same sums, bit for bit.
 */
export function product(a: ProductArgs, lines: number): Product {
  const shape = matrixShape(a, lines) ?? blockShape(a, lines) ?? laneShape(a, lines);
  const groups = Math.ceil(a.n / shape.groupWidth);
  const grid = Math.min(groups, MAX_GRID);
  if (isBlockDtype(a.dtype) && a.scalesAt === undefined)
    throw new Error(`${a.label}: where the scales of its ${a.dtype} weight begin is not said.`);
  return {
    kind: shape.kind,
    tile: { rows: shape.rows, columns: shape.groupWidth },
    constants: { QUADS: Number(a.k % 8 === 0), DTYPE: DTYPE_CODE[a.dtype], ...shape.constants },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.input, access: 'read' },
      { buffer: a.weight, access: 'read' },
      { buffer: a.out, access: 'read_write' },
    ],
    params: [a.n, a.k, grid, a.countWord, a.scalesAt ?? 0, a.columns?.first ?? 0, a.columns?.of ?? a.n],
    workgroups: [grid, Math.ceil(groups / grid), Math.ceil(a.bucket / shape.rows)],
    bytes: a.n * lines * a.k * bytesPerValue(a.dtype) + a.bucket * (a.k + a.n) * 4,
    flops: 2 * a.bucket * a.n * lines * a.k,
  };
}

interface TileShape {
  readonly kind: ProductKind;
  /** Rows, and columns of `out`, of one workgroup. */
  readonly rows: number;
  readonly groupWidth: number;
  readonly constants: Constants;
}

/** Subgroups of 32 in a workgroup, and 16 x 16 matrices of each: 128 x 128 or, where those are too few, 64 x 64 rows by weight rows. */
const MATRIX_SHAPES = [
  { SUBGROUP_ROWS: 2, SUBGROUP_COLUMNS: 4, TILE_ROWS: 4, TILE_COLUMNS: 2 },
  { SUBGROUP_ROWS: 2, SUBGROUP_COLUMNS: 2, TILE_ROWS: 2, TILE_COLUMNS: 2 },
];
/** Numbers of k staged at a time. */
const MATRIX_DEPTH = 32;

/** null = not by matrix instructions. Their order of sums is their own: see `chooseMatrices`. */
function matrixShape({ matrices, bucket, k, n }: ProductArgs, lines: number): TileShape | null {
  if (!matrices || k % MATRIX_DEPTH !== 0) return null;
  const shapes = MATRIX_SHAPES.map((shape) => ({
    ...shape,
    BLOCK_ROWS: shape.SUBGROUP_ROWS * shape.TILE_ROWS * 16,
    BLOCK_LINES: shape.SUBGROUP_COLUMNS * shape.TILE_COLUMNS * 16,
    THREADS: shape.SUBGROUP_ROWS * shape.SUBGROUP_COLUMNS * 32,
  })).filter(({ BLOCK_ROWS }) => BLOCK_ROWS <= bucket);
  const chosen =
    shapes.find(
      ({ BLOCK_ROWS, BLOCK_LINES }) => (bucket / BLOCK_ROWS) * Math.ceil((n * lines) / BLOCK_LINES) >= LEAST_WORKGROUPS,
    ) ?? (bucket >= MANY_ROWS ? shapes.at(-1) : undefined);
  if (!chosen) return null;
  return {
    kind: 'matrix',
    rows: chosen.BLOCK_ROWS,
    groupWidth: chosen.BLOCK_LINES / lines,
    constants: { ...chosen, DEPTH: MATRIX_DEPTH, WIDE: 0 },
  };
}

/** Threads in y, and groups of four rows of each: blocks of 128, 64 and 32 rows. */
const BLOCK_HEIGHTS = [
  { TY: 16, ROW_GROUPS: 2 },
  { TY: 16, ROW_GROUPS: 1 },
  { TY: 8, ROW_GROUPS: 1 },
];
/** Fewer leave a GPU idle: lanes do better then, unless there are very many rows. */
const LEAST_WORKGROUPS = 100;
const MANY_ROWS = 128;

/** Blocks of 32, 64 or 128 rows by 128 weight rows, the largest of which there are enough; a thread computes 4 or 8 by 8 of them. null = lanes. */
function blockShape({ variant, bucket, k, n }: ProductArgs, lines: number): TileShape | null {
  if (variant !== 'wide' || k % 8 !== 0) return null;
  const TX = 16;
  const LINE_GROUPS = 2;
  const BLOCK_LINES = 4 * TX * LINE_GROUPS;
  const fitting = BLOCK_HEIGHTS.filter(({ TY, ROW_GROUPS }) => 4 * TY * ROW_GROUPS <= bucket);
  const enough = ({ TY, ROW_GROUPS }: { TY: number; ROW_GROUPS: number }) =>
    (bucket / (4 * TY * ROW_GROUPS)) * Math.ceil((n * lines) / BLOCK_LINES) >= LEAST_WORKGROUPS;
  const chosen = fitting.find(enough) ?? (bucket >= MANY_ROWS ? fitting.at(-1) : undefined);
  if (!chosen) return null;
  const { TY, ROW_GROUPS } = chosen;
  const BLOCK_ROWS = 4 * TY * ROW_GROUPS;
  const chunks = k / 8;
  const even = chunks % 2 === 0 && Math.ceil(chunks / SEGMENTS) % 2 === 0;
  const sizes = { TX, TY, THREADS: TX * TY, ROW_GROUPS, LINE_GROUPS, BLOCK_ROWS, BLOCK_LINES };
  return {
    kind: 'block',
    rows: BLOCK_ROWS,
    groupWidth: BLOCK_LINES / lines,
    constants: { ...sizes, DEPTH: even ? 16 : 8, SEGMENTS, WIDE: 0 },
  };
}

/** A thread's own tile (scalar), or one that the lanes of a workgroup share (wide). */
function laneShape(a: ProductArgs, lines: number): TileShape {
  const wide = a.variant === 'wide';
  const workgroup = WORKGROUP[a.variant];
  const { rows, columns } = tileOf(a, lines, wide);
  const width = columns / lines;
  const groupWidth = width * (wide ? workgroup / SEGMENTS : workgroup);
  return {
    kind: 'lanes',
    rows,
    groupWidth,
    constants: {
      ROWS: rows,
      COLUMNS: columns,
      WIDTH: width,
      GROUP_WIDTH: groupWidth,
      SEGMENTS: wide ? SEGMENTS : 1,
      UNROLL: wide ? unroll(a.k) : 1,
      LANES: wide ? workgroup : 1,
      WORKGROUP: workgroup,
      WIDE: Number(wide),
    },
  };
}

/** Outputs of a thread: rows, and weight rows. Few tile heights, since each is a shader of its own to compile, and these are the largest ones. */
function tileOf({ bucket }: ProductArgs, lines: number, wide: boolean): { rows: number; columns: number } {
  // 8 x 8 are fastest on SwiftShader; for one row, 4 columns leave more threads.
  if (!wide) return bucket === 1 ? { rows: 1, columns: 4 } : { rows: bucket <= 4 ? 4 : 8, columns: 8 };
  // A GPU wants many workgroups for one row, and to use what it reads of a weight for as many rows as there are.
  if (bucket === 1) return { rows: 1, columns: lines };
  return { rows: bucket <= 4 ? 4 : 8, columns: 2 };
}

/** Chunks that a thread loads before it sums them: as many as divide every run of k. */
function unroll(k: number): number {
  const run = k / 8 / SEGMENTS;
  return [4, 2].find((chunks) => run % chunks === 0) ?? 1;
}
