import type { Binding } from '../gpu/kernel.ts';
import type { Constants } from '../gpu/shader-source.ts';
import { bytesPerValue, DTYPE_CODE, isBlockDtype, type WeightDtype } from './dtype.ts';
import { tileShape } from './product-shape.ts';
import { NORM_LANES } from './rms-norm.ts';
import type { KernelVariant } from './variant.ts';

/** Column tiles in one row of workgroups; a dispatch takes at most 65,535 in each dimension. */
const MAX_GRID = 32_768;

export interface ProductArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Products of many rows may be computed by matrix instructions; not unless said. */
  readonly matrices?: boolean;
  /** Which kernel of the wide variant; the one that suits its size unless said. */
  readonly kind?: 'lanes' | 'block';
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
  /** The input is RMS normed on its way in, as `rmsNorm` does; only where `normsInput` says so. */
  readonly norm?: { readonly weight: GPUBuffer; readonly eps: number; readonly offset: number };
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
  const shape = tileShape(a, lines);
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

/** Most numbers of an input row that a product norms itself: four bytes each of the 16 KiB of workgroup memory that every adapter has. */
const MOST_NORMED = 3072;

/** Whether a product of such rows can norm its input: the one row of a wide kernel. For more rows a norm of its own costs less. */
export function normsInput({ variant, bucket, k }: Pick<ProductArgs, 'variant' | 'bucket' | 'k'>): boolean {
  return variant === 'wide' && bucket === 1 && k % 8 === 0 && k <= MOST_NORMED;
}

/** Constants and binding of the norm of a product's input, at binding `at`. Throws for a product that norms nothing. */
export function normedInput(
  a: ProductArgs,
  at: number,
): { readonly constants: Constants; readonly bindings: readonly Binding[] } {
  if (a.norm === undefined) return { constants: { NORM: 0 }, bindings: [] };
  if (!normsInput(a)) throw new Error(`${a.label}: a product of ${a.bucket} rows of ${a.k} can't norm its input.`);
  const { weight, eps, offset } = a.norm;
  return {
    constants: { NORM: 1, NORM_WIDTH: a.k, NORM_BINDING: at, SUM_LANES: NORM_LANES.wide, EPS: eps, OFFSET: offset },
    bindings: [{ buffer: weight, access: 'read' }],
  };
}
