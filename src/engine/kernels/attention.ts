import type { KernelCall } from '../gpu/kernel.ts';
import { attentionBlock, LEAST_ROWS } from './attention-block.ts';
import { attentionMatrix } from './attention-matrix.ts';
import { attentionWide, TILE } from './attention-wide.ts';
import { type PagedArgs, pagedConstants } from './paged.ts';
import type { KernelVariant } from './variant.ts';

/** Most threads of a workgroup of the scalar kernel; a software adapter gives each workgroup to one core. */
const SCALAR_WORKGROUP = 16;
/** Up to so many rows times KV heads, workgroups share the tiles of a row; more keep a GPU busy with a workgroup each. */
const MAX_SPLIT_HEADS = 128;
/** Fewer than are taken in blocks, and no more memory for their partial sums. */
const MAX_SPLIT_ROWS = LEAST_ROWS / 2;
const MAX_SPLIT_BYTES = 64 * 2 ** 20;
/** Most workgroups that share tiles: one for each that a sequence may get would leave most of them with nothing to do. */
const SPLIT_WORKGROUPS = 2048;
/** Pairs of dimensions of a workgroup of attention_merge.wgsl. */
const MERGE_SLICE = 16;
/** As small as buffers get. */
const LEAST_BYTES = 16;

export interface AttentionArgs extends PagedArgs {
  readonly variant: KernelVariant;
  /** Blocks of rows may be attended to by matrix instructions; not unless said. */
  readonly matrices?: boolean;
  /** Rows may stand side by side as their positions do: chunks of prompts. They are computed whether this says so or not. */
  readonly chunks: boolean;
  readonly scale: number;
  /** A row sees the last so many positions, its own included; 0 = all. */
  readonly slidingWindow: number;
  /** Scores are bounded by cap * tanh(score / cap); 0 = not. */
  readonly softcap: number;
  /** [bucket][numHeads][headDim] f32 */
  readonly q: GPUBuffer;
  /** `partialsBytes` bytes. */
  readonly partials: GPUBuffer;
  /** [bucket][numHeads][headDim] f32 */
  readonly out: GPUBuffer;
}

interface Sizes {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Longest sequence, tokens. */
  readonly maxLen: number;
}

/**
 * Causal attention of each active row over its slot's pages, positions 0 to its own (or the last `slidingWindow`).
 * Rows may be any mix of slots and positions. `bytes` and `flops` leave out K and V:
 * how many a row reads depends on its position, which the runner knows.
 */
export function attention(a: AttentionArgs): KernelCall[] {
  const constants = {
    ...pagedConstants(a),
    SCALE: a.scale,
    WINDOW: a.slidingWindow,
    CAP: a.softcap,
    HAS_CAP: Number(a.softcap > 0),
  };
  const inputs = [a.rows, a.blockTable, a.q, a.kPool, a.vPool].map((buffer) => ({ buffer, access: 'read' as const }));
  const call: Omit<KernelCall, 'shader' | 'constants' | 'workgroups'> = {
    label: a.label,
    bindings: [...inputs, { buffer: a.out, access: 'read_write' }],
    bytes: a.bucket * a.numHeads * a.headDim * 8,
    flops: 0,
  };
  if (a.variant === 'scalar') {
    const workgroup = largestDivisor(a.numHeads, SCALAR_WORKGROUP);
    return [
      {
        ...call,
        shader: 'attention_scalar.wgsl',
        constants: { ...constants, WORKGROUP: workgroup },
        workgroups: [(a.bucket * a.numHeads) / workgroup, 1, 1],
      },
    ];
  }
  const group = a.numHeads / a.numKvHeads;
  const sizes = { ...a, maxLen: a.blockSize * a.maxBlocksPerSeq };
  const tiles = maxTiles(sizes);
  const split = a.bucket <= splitRows(sizes);
  const matrix = a.matrices && a.chunks && !split && a.kvDtype !== 'int8' ? attentionMatrix(a) : null;
  const block = matrix ?? (a.chunks && !split ? attentionBlock(a) : null);
  const pairs = a.headDim / 2;
  const sharing = Math.min(tiles, Math.floor(SPLIT_WORKGROUPS / (a.bucket * a.numKvHeads)));
  const wide: KernelCall = {
    ...call,
    shader: 'attention_wide.wgsl',
    constants: {
      ...constants,
      ...attentionWide(a),
      GROUP: group,
      PAIRS: pairs,
      SPLIT: Number(split),
      MAX_TILES: tiles,
      BLOCK_ROWS: block?.BLOCK_ROWS ?? 0,
    },
    workgroups: [a.numKvHeads, a.bucket, split ? sharing : 1],
  };
  if (block) {
    return [
      {
        ...call,
        shader: matrix ? 'attention_matrix.wgsl' : 'attention_block.wgsl',
        constants: { ...constants, ...block, GROUP: group },
        workgroups: [a.numKvHeads, a.bucket, 1],
      },
      { ...wide, label: `${a.label} rows`, bytes: 0 },
    ];
  }
  if (!split) return [wide];
  return [
    { ...wide, bindings: [...inputs, { buffer: a.partials, access: 'read_write' }] },
    {
      label: `${a.label} merge`,
      shader: 'attention_merge.wgsl',
      constants: {
        HEADS: a.numHeads,
        PAIRS: pairs,
        WINDOW: a.slidingWindow,
        MAX_TILES: tiles,
        SLICE: MERGE_SLICE,
      },
      bindings: [
        { buffer: a.rows, access: 'read' },
        { buffer: a.partials, access: 'read' },
        { buffer: a.out, access: 'read_write' },
      ],
      workgroups: [a.numHeads * Math.ceil(pairs / MERGE_SLICE), a.bucket, 1],
      bytes: a.bucket * a.numHeads * a.headDim * 4,
      flops: 0,
    },
  ];
}

/** Size of `partials`: what the tiles of the rows that are split give. Only wide kernels split rows. */
export function partialsBytes(variant: KernelVariant, sizes: Sizes): number {
  return variant === 'wide' ? Math.max(LEAST_BYTES, splitRows(sizes) * rowBytes(sizes)) : LEAST_BYTES;
}

/** Rows that are split at most: so many as leave their partial sums within bounds, a power of two; 0 = none. */
function splitRows(sizes: Sizes): number {
  const rows = Math.min(
    MAX_SPLIT_ROWS,
    Math.floor(MAX_SPLIT_HEADS / sizes.numKvHeads),
    Math.floor(MAX_SPLIT_BYTES / rowBytes(sizes)),
  );
  return rows < 1 ? 0 : 2 ** Math.floor(Math.log2(rows));
}

function rowBytes(sizes: Sizes): number {
  return sizes.numHeads * maxTiles(sizes) * (sizes.headDim + 2) * 4;
}

/** The same for every block size, since all divide a tile. */
function maxTiles({ maxLen }: Sizes): number {
  return Math.ceil(maxLen / TILE);
}

/** So that a workgroup serves one row, whatever the bucket: one shader for all, and no thread past the last row. */
function largestDivisor(n: number, most: number): number {
  for (let d = Math.min(n, most); d > 1; d--) if (n % d === 0) return d;
  return 1;
}
