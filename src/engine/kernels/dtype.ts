/** How numbers are held in u32 words; 16-bit ones two a word, low half first. */
export type FloatDtype = 'f32' | 'bf16' | 'f16';

/**
 * How weights are held as integers, in blocks along k that share a scale: `shaders/lib/blocks.wgsl` has the formulas.
 * -min: with a minimum; -16: blocks of 16 with f32 scales, else of 32 with f16 scales.
 */
export type BlockDtype = 'int8' | 'int8-min' | 'int8-16' | 'int4' | 'int4-min';

export type WeightDtype = FloatDtype | BlockDtype;

/** DTYPE of `shaders/lib/dtype.wgsl`, `shaders/lib/blocks.wgsl` and, of K and V, `shaders/lib/kv.wgsl`. */
export const DTYPE_CODE: Readonly<Record<WeightDtype, number>> = {
  f32: 0,
  bf16: 1,
  f16: 2,
  int8: 3,
  'int8-min': 4,
  'int8-16': 5,
  int4: 6,
  'int4-min': 7,
};

export const FLOAT_BYTES: Readonly<Record<FloatDtype, number>> = { f32: 4, bf16: 2, f16: 2 };

/** How K and V are held: as floats, or as int8 with one f16 scale a token and KV head (`shaders/lib/kv_int8.wgsl`). */
export type KvDtype = FloatDtype | 'int8';

/** Bytes of the K, or the V, of one token and KV head. */
export function kvHeadBytes(dtype: KvDtype, headDim: number): number {
  return dtype === 'int8' ? headDim + 2 : headDim * FLOAT_BYTES[dtype];
}

/** Integers of a row are padded to whole runs of so many, whatever the length of a block. */
const RUN = 32;
/** Bytes of the integers and of the scales (and minima) of one run. */
const RUN_BYTES: Readonly<Record<BlockDtype, { readonly integers: number; readonly scales: number }>> = {
  int8: { integers: 32, scales: 2 },
  'int8-min': { integers: 32, scales: 4 },
  'int8-16': { integers: 32, scales: 8 },
  int4: { integers: 16, scales: 2 },
  'int4-min': { integers: 16, scales: 4 },
};

export function isBlockDtype(dtype: WeightDtype): dtype is BlockDtype {
  return Object.hasOwn(RUN_BYTES, dtype);
}

/** Where a weight's numbers lie in its buffer, in bytes. */
export interface WeightLayout {
  /** Of one row of numbers. */
  readonly rowBytes: number;
  /** Where the scales begin, behind all integers; 0 for floats, which have none. */
  readonly scalesAt: number;
  /** Of one row of scales, whole words. */
  readonly scaleRowBytes: number;
  /** All of it. */
  readonly bytes: number;
}

/** Layout of `rows` x `cols` numbers: all rows of numbers, then, for integers, all rows of scales. */
export function weightLayout(dtype: WeightDtype, rows: number, cols: number): WeightLayout {
  if (!isBlockDtype(dtype)) {
    const rowBytes = cols * FLOAT_BYTES[dtype];
    return { rowBytes, scalesAt: 0, scaleRowBytes: 0, bytes: rows * rowBytes };
  }
  const runs = Math.ceil(cols / RUN);
  const rowBytes = runs * RUN_BYTES[dtype].integers;
  const scaleRowBytes = Math.ceil((runs * RUN_BYTES[dtype].scales) / 4) * 4;
  return { rowBytes, scalesAt: rows * rowBytes, scaleRowBytes, bytes: rows * (rowBytes + scaleRowBytes) };
}

/** Bytes of the scales (and minima) of `numbers` consecutive numbers, whole runs of 32. */
export function scaleBytes(dtype: BlockDtype, numbers: number): number {
  return (numbers / RUN) * RUN_BYTES[dtype].scales;
}

/** Bytes that one number takes, its part of the scales included. */
export function bytesPerValue(dtype: WeightDtype): number {
  return isBlockDtype(dtype) ? (RUN_BYTES[dtype].integers + RUN_BYTES[dtype].scales) / RUN : FLOAT_BYTES[dtype];
}
