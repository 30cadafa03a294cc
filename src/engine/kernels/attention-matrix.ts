import type { Constants } from '../gpu/shader-source.ts';
import { blockRows, LEAST_ROWS } from './attention-block.ts';

/** Subgroups of 32 in a workgroup, each with 16 queries. */
const SUBGROUPS = 4;
const QUERIES = 16 * SUBGROUPS;
/** Dimensions of a head up to which a lane's share of queries and sums fits its registers. */
const MOST_DIMENSIONS = 128;

interface Sizes {
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Constants of attention_matrix.wgsl that shape its workgroups; null = these rows are taken otherwise. */
export function attentionMatrix({ bucket, numHeads, numKvHeads, headDim }: Sizes): Constants | null {
  const group = numHeads / numKvHeads;
  if (bucket < LEAST_ROWS || headDim % 16 !== 0 || headDim > MOST_DIMENSIONS || 2 * group > QUERIES) return null;
  return { BLOCK_ROWS: blockRows(QUERIES, group), SUBGROUPS, THREADS: 32 * SUBGROUPS };
}
