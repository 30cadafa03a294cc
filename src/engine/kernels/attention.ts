import type { KernelCall } from '../gpu/kernel.ts';
import { attentionBlock } from './attention-block.ts';
import { attentionMatrix } from './attention-matrix.ts';
import { type PagedArgs, pagedConstants } from './paged.ts';
import type { KernelVariant } from './variant.ts';

/** Most threads of a workgroup; a software adapter gives each workgroup to one core. */
const WORKGROUP = { scalar: 16, wide: 256 } as const;
/** Positions of a tile, in all wide kernels. */
const TILE = 64;
/** With so few rows, workgroups share a row's tiles. */
const MAX_SPLIT_ROWS = 8;
const MAX_SPLIT_BYTES = 64 * 2 ** 20;
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
    const workgroup = largestDivisor(a.numHeads, WORKGROUP.scalar);
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
  const lanes = Math.min(WORKGROUP.wide, 2 ** Math.ceil(Math.log2(group * Math.max(TILE, a.headDim / 2))));
  const wide: KernelCall = {
    ...call,
    shader: 'attention_wide.wgsl',
    constants: {
      ...constants,
      GROUP: group,
      PAIRS: a.headDim / 2,
      LANES: lanes,
      SPLIT: Number(split),
      MAX_TILES: tiles,
      BLOCK_ROWS: block?.BLOCK_ROWS ?? 0,
    },
    workgroups: [a.numKvHeads, a.bucket, split ? tiles : 1],
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
      constants: { HEADS: a.numHeads, PAIRS: a.headDim / 2, WINDOW: a.slidingWindow, MAX_TILES: tiles },
      bindings: [
        { buffer: a.rows, access: 'read' },
        { buffer: a.partials, access: 'read' },
        { buffer: a.out, access: 'read_write' },
      ],
      workgroups: [a.numHeads, a.bucket, 1],
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
  const rows = Math.min(MAX_SPLIT_ROWS, Math.floor(MAX_SPLIT_BYTES / rowBytes(sizes)));
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
