import { MATRIX } from '../gpu/device.ts';
import type { Constants } from '../gpu/shader-source.ts';
import { isBlockDtype } from './dtype.ts';
import type { ProductArgs, ProductKind } from './product.ts';

/** Runs of k whose sums a wide product adds (lib/tile.wgsl). A constant of the order of sums: to change it changes every answer's last bits. */
const SEGMENTS = 16;
/** Threads of a workgroup. A software adapter gives each workgroup to one core, so that small ones share a product evenly. */
const WORKGROUP = { scalar: 16, few: 128, many: 256 } as const;
/** Rows up to which a GPU's workgroups are small, so that there are more of them. */
const FEW = 16;
/** Weight rows up to which the tiles of up to FEW / 2 rows are small, for the same reason. */
const NARROW = 2048;

/** What a workgroup computes of a product, and the constants that say so to its shader. */
export interface TileShape {
  readonly kind: ProductKind;
  /** Rows, and columns of `out`, of one workgroup. */
  readonly rows: number;
  readonly groupWidth: number;
  readonly constants: Constants;
}

/** The shape of a product; `lines`: weight rows of one output column. */
export function tileShape(a: ProductArgs, lines: number): TileShape {
  const matrix = a.kind === undefined ? matrixShape(a, lines) : null;
  const block = a.kind === 'lanes' ? null : blockShape(a, lines);
  return matrix ?? block ?? laneShape(a, lines);
}

/** Subgroups of 32 in a workgroup, 16 x 16 matrices of each, and numbers of k staged at a time. */
interface MatrixShape {
  readonly SUBGROUP_ROWS: number;
  readonly SUBGROUP_COLUMNS: number;
  readonly TILE_ROWS: number;
  readonly TILE_COLUMNS: number;
  readonly PARTS: number;
  readonly DEPTH: number;
}

/** 128 x 128 or, where those are too few, 64 x 64 rows by weight rows. */
const MATRIX_SHAPES: readonly MatrixShape[] = [
  { SUBGROUP_ROWS: 2, SUBGROUP_COLUMNS: 4, TILE_ROWS: 4, TILE_COLUMNS: 2, PARTS: 1, DEPTH: 32 },
  { SUBGROUP_ROWS: 2, SUBGROUP_COLUMNS: 2, TILE_ROWS: 2, TILE_COLUMNS: 2, PARTS: 1, DEPTH: 32 },
];
/** Workgroups below which a GPU is left idle. */
const LEAST_WORKGROUPS = 100;
/** Rows of a batch whose workgroups take all of them; beyond, so many each. */
const FEW_ROWS = { least: 16, most: 64 } as const;

/** null = not by matrix instructions. Their order of sums is their own: see `chooseMatrices`. */
function matrixShape({ matrices, bucket, k, n }: ProductArgs, lines: number): TileShape | null {
  if (!matrices || bucket < FEW_ROWS.least || k % 32 !== 0) return null;
  const blockRows = (shape: MatrixShape) => shape.SUBGROUP_ROWS * shape.TILE_ROWS * 16;
  const blockLines = (shape: MatrixShape) => shape.SUBGROUP_COLUMNS * shape.TILE_COLUMNS * 16;
  const chosen =
    MATRIX_SHAPES.find(
      (shape) =>
        bucket > FEW_ROWS.most &&
        Math.ceil(bucket / blockRows(shape)) * Math.ceil((n * lines) / blockLines(shape)) >= LEAST_WORKGROUPS,
    ) ?? fewRows(bucket, k, n, lines);
  const [BLOCK_ROWS, BLOCK_LINES] = [blockRows(chosen), blockLines(chosen)];
  return {
    kind: 'matrix',
    rows: BLOCK_ROWS,
    groupWidth: BLOCK_LINES / lines,
    constants: {
      ...chosen,
      BLOCK_ROWS,
      BLOCK_LINES,
      THREADS: chosen.SUBGROUP_ROWS * chosen.SUBGROUP_COLUMNS * chosen.PARTS * 32,
      WIDE: 0,
    },
  };
}

/** The widest workgroups of which there are enough; the subgroups of one tile take parts of k. Measured: bench/README.md. */
function fewRows(bucket: number, k: number, n: number, lines: number): MatrixShape {
  const enough = (width: number) => n * lines >= width * LEAST_WORKGROUPS;
  const all = Math.min(bucket, FEW_ROWS.most) / 16;
  if (enough(60))
    return deepest({ SUBGROUP_COLUMNS: 2, TILE_ROWS: all, TILE_COLUMNS: 2, PARTS: 4, DEPTH: 128 }, k, lines);
  if (enough(30))
    return deepest({ SUBGROUP_COLUMNS: 1, TILE_ROWS: all, TILE_COLUMNS: 2, PARTS: 8, DEPTH: 256 }, k, lines);
  const TILE_ROWS = Math.max(1, all / 2);
  const TILE_COLUMNS = Math.max(lines, 2 / TILE_ROWS);
  return deepest({ SUBGROUP_COLUMNS: 1, TILE_ROWS, TILE_COLUMNS, PARTS: 8, DEPTH: 256 }, k, lines);
}

/** The shape with the largest DEPTH, at most its own, that divides k and fits workgroup memory, and as many PARTS, at most its own, as that feeds. */
function deepest(shape: Omit<MatrixShape, 'SUBGROUP_ROWS'>, k: number, lines: number): MatrixShape {
  const { SUBGROUP_COLUMNS, TILE_ROWS, TILE_COLUMNS, DEPTH } = shape;
  const parts = (depth: number) => Math.min(shape.PARTS, depth / 16, (TILE_ROWS * depth) / 16 / SUBGROUP_COLUMNS);
  const bytes = (depth: number) =>
    32 * (TILE_ROWS + TILE_COLUMNS * SUBGROUP_COLUMNS) * (depth + 8) + 1024 * lines * SUBGROUP_COLUMNS * parts(depth);
  const depth =
    [DEPTH, DEPTH / 2, DEPTH / 4].find((each) => k % each === 0 && bytes(each) <= MATRIX.workgroupBytes) ?? 32;
  return { ...shape, SUBGROUP_ROWS: 1, PARTS: parts(depth), DEPTH: depth };
}

/**
 * Rows by weight rows of a workgroup: 64 x 64 or, where those are too few to go round, 32 x 64; TX x TY threads, each with 4 x 4 outputs ROW_GROUPS x
 * LINE_GROUPS times; numbers of k staged at a time, where they divide a run; and the least workgroups for which they are chosen. Measured: bench/README.md.
 */
const BLOCK_SHAPES = [
  { TX: 8, TY: 8, ROW_GROUPS: 2, LINE_GROUPS: 2, depth: 16, least: 350 },
  { TX: 8, TY: 8, ROW_GROUPS: 1, LINE_GROUPS: 2, depth: 32, least: 160 },
];

/** null = the lanes of a workgroup do better. */
function blockShape({ variant, bucket, k, n, kind }: ProductArgs, lines: number): TileShape | null {
  if (variant !== 'wide' || k % 8 !== 0) return null;
  const sized = BLOCK_SHAPES.map((shape) => {
    const [rows, across] = [4 * shape.TY * shape.ROW_GROUPS, 4 * shape.TX * shape.LINE_GROUPS];
    return { ...shape, rows, across, workgroups: Math.floor(bucket / rows) * Math.ceil((n * lines) / across) };
  });
  const chosen =
    kind === 'block'
      ? (sized.find(({ rows }) => rows <= bucket) ?? sized.at(-1))
      : sized.find(({ workgroups, least }) => workgroups >= least);
  if (!chosen) return null;
  const { TX, TY, ROW_GROUPS, LINE_GROUPS, rows, across, depth } = chosen;
  const sizes = { TX, TY, THREADS: TX * TY, ROW_GROUPS, LINE_GROUPS, BLOCK_ROWS: rows, BLOCK_LINES: across };
  return {
    kind: 'block',
    rows,
    groupWidth: across / lines,
    constants: { ...sizes, DEPTH: depthOf(k, depth), SEGMENTS, WIDE: 0 },
  };
}

/** The most numbers of k up to `most`, a power of two, that divide k and every run of it. */
function depthOf(k: number, most: number): number {
  const chunks = k / 8;
  const run = Math.ceil(chunks / SEGMENTS);
  for (let depth = most; depth > 8; depth /= 2) {
    if (chunks % (depth / 8) === 0 && run % (depth / 8) === 0) return depth;
  }
  return 8;
}

/** A thread's own tile (scalar), or one that the lanes of a workgroup share (wide). */
function laneShape(a: ProductArgs, lines: number): TileShape {
  const wide = a.variant === 'wide';
  // Every workgroup norms the whole of an input row.
  const few = lines > 1 || (a.bucket <= FEW && a.norm === undefined);
  const workgroup = WORKGROUP[!wide ? 'scalar' : few ? 'few' : 'many'];
  const { rows, columns } = wide ? wideTile(a, lines) : scalarTile(a);
  const width = columns / lines;
  const groupWidth = width * (wide ? workgroup / SEGMENTS : workgroup);
  const chunks = wide ? unroll(a) : 1;
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
      UNROLL: chunks,
      ONE_PASS: Number(wide && a.k === 8 * SEGMENTS * chunks),
      LANES: wide ? workgroup : 1,
      WORKGROUP: workgroup,
      WIDE: Number(wide),
      ONE_ROW: Number(a.bucket === 1),
    },
  };
}

interface Tile {
  readonly rows: number;
  /** Weight rows. */
  readonly columns: number;
}

/** Outputs of a thread that works alone. 8 x 8 are fastest on SwiftShader; for one row, 4 columns leave more threads. */
function scalarTile({ bucket }: ProductArgs): Tile {
  return bucket === 1 ? { rows: 1, columns: 4 } : { rows: bucket <= 4 ? 4 : 8, columns: 8 };
}

/**
 * Outputs of a lane. A GPU wants many workgroups for few rows, and to use what it reads of a weight for as many rows as there are; a lane's outputs are at
 * most SEGMENTS, since each lane writes one. Few tile heights, since each is a shader of its own to compile. Measured: bench/README.md.
 */
function wideTile({ bucket, n }: ProductArgs, lines: number): Tile {
  if (bucket === 1) return { rows: 1, columns: lines };
  if (bucket <= FEW / 2 && n * lines <= NARROW) return { rows: 4, columns: lines };
  if (bucket <= 4) return { rows: 4, columns: 2 };
  return { rows: 8, columns: 2 * lines };
}

/** Chunks that a thread loads before it sums them: as many as divide every run of k; for one row there are registers for more. */
function unroll({ k, bucket, dtype }: ProductArgs): number {
  const run = k / 8 / SEGMENTS;
  const most = bucket === 1 && !isBlockDtype(dtype) ? [8, 4, 2] : [4, 2];
  return most.find((chunks) => run % chunks === 0) ?? 1;
}
