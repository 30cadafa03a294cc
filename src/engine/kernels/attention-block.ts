import type { Constants } from '../gpu/shader-source.ts';

/** Rows that many at least are taken in blocks where there are chunks among them: fewer leave a GPU idle. */
export const LEAST_ROWS = 128;
/** Most queries (rows times query heads of a KV head) of a workgroup: the first of which there are enough workgroups, else the last. */
const QUERIES: readonly number[] = [64, 32];
const LEAST_WORKGROUPS = 200;
/** Dimensions of a head up to which a thread holds the sums of four queries for all of an eighth of them; beyond, of a sixteenth. */
const NARROW = 128;
/**
 * TX: threads side by side; HELD: queries of a thread; V_KEYS: positions whose values are staged at a time; DEPTH: dimensions of queries
 * and keys staged at a time, where they divide a head. What was fastest on an H200 of all that leaves workgroup memory below 16 KiB.
 */
const SHAPES = {
  narrow: { TX: 8, HELD: 4, V_KEYS: 8, DEPTH: 16 },
  /** Few queries: more threads for each. */
  few: { TX: 16, HELD: 4, V_KEYS: 8, DEPTH: 32 },
  broad: { TX: 16, HELD: 4, V_KEYS: 4, DEPTH: 16 },
} as const;
/** Positions of a tile. */
const TILE = 64;

interface Sizes {
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Constants of attention_block.wgsl that shape its workgroups; null = these rows are better taken one by one. */
export function attentionBlock(sizes: Sizes): Constants | null {
  if (sizes.bucket < LEAST_ROWS) return null;
  const group = sizes.numHeads / sizes.numKvHeads;
  const fitting = QUERIES.filter((queries) => 2 * group <= queries);
  const workgroups = (queries: number) => (sizes.bucket / blockRows(queries, group)) * sizes.numKvHeads;
  const most = fitting.find((queries) => workgroups(queries) >= LEAST_WORKGROUPS) ?? fitting.at(-1);
  if (most === undefined) return null;
  const shape = sizes.headDim > NARROW ? 'broad' : most === QUERIES.at(-1) ? 'few' : 'narrow';
  const { TX, HELD, V_KEYS, DEPTH } = SHAPES[shape];
  const BLOCK_ROWS = blockRows(most, group);
  const TY = Math.ceil((BLOCK_ROWS * group) / HELD);
  return {
    BLOCK_ROWS,
    TX,
    TY,
    THREADS: TX * TY,
    HELD,
    DEPTH: [DEPTH, 16, 8].find((depth) => sizes.headDim % depth === 0) ?? 8,
    V_KEYS,
    SHARES: TY * HELD > 32 ? 2 : 1,
  };
}

/** Bytes of workgroup memory that attention_block.wgsl declares with these constants. */
export function workgroupBytes(block: Constants, headDim: number): number {
  const of = (name: string): number => block[name]!;
  const queries = of('TY') * of('HELD');
  const stride = of('DEPTH') / 4 + 1;
  const weights = queries * (TILE / of('SHARES') / 4 + 1);
  const values = Math.max((of('V_KEYS') * headDim) / 4, (of('THREADS') * of('HELD')) / 4);
  return 16 * Math.max((queries + TILE) * stride, weights + values) + 4 * TILE + 12 * queries;
}

/** A power of two, so that blocks lie within tiles of positions. */
export function blockRows(queries: number, group: number): number {
  return Math.min(TILE, 2 ** Math.floor(Math.log2(queries / group)));
}
