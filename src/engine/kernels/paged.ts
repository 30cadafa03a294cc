import { EngineError } from '../api.ts';
import type { Constants } from '../gpu/shader-source.ts';
import { DTYPE_CODE, type KvDtype } from './dtype.ts';

/** So that a workgroup of 256 threads has one for each pair of dimensions. */
const MOST_DIMENSIONS = 512;

/** What kernels on the paged KV pool have in common. */
export interface PagedArgs {
  readonly label: string;
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  /** A multiple of 8, 512 at most. */
  readonly headDim: number;
  readonly kvDtype: KvDtype;
  /** Tokens a block. */
  readonly blockSize: number;
  readonly maxBlocksPerSeq: number;
  /** [bucket] vec4<u32>(slot, position, token, active) */
  readonly rows: GPUBuffer;
  /** [slot][maxBlocksPerSeq] u32 block ids */
  readonly blockTable: GPUBuffer;
  /** [block][token in block][kv head][dim] in `kvDtype`; behind each block of int8 its scales (`shaders/lib/kv.wgsl`) */
  readonly kPool: GPUBuffer;
  readonly vPool: GPUBuffer;
}

/** Constants of `lib/kv.wgsl` and its includers. Throws `EngineError` code `model` for heads that the kernels can't take. */
export function pagedConstants(a: PagedArgs): Constants {
  if (a.headDim % 8 !== 0 || a.headDim > MOST_DIMENSIONS) {
    throw new EngineError(
      'model',
      `${a.label}: heads of ${a.headDim} dimensions; the kernels need a multiple of 8, ${MOST_DIMENSIONS} at most.`,
    );
  }
  if (a.numHeads % a.numKvHeads !== 0) {
    throw new EngineError(
      'model',
      `${a.label}: ${a.numHeads} query heads can't share ${a.numKvHeads} KV heads evenly; check num_key_value_heads in config.json.`,
    );
  }
  return {
    HEADS: a.numHeads,
    KV_HEADS: a.numKvHeads,
    HEAD_DIM: a.headDim,
    DTYPE: DTYPE_CODE[a.kvDtype],
    BLOCK_SIZE: a.blockSize,
    MAX_BLOCKS_PER_SEQ: a.maxBlocksPerSeq,
  };
}
