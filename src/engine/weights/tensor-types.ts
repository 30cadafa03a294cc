import type { FloatDtype, WeightDtype } from '../kernels/dtype.ts';

/** How a tensor lies in a file, by the names that safetensors and GGUF give it, and how it is held on the GPU. */
export interface TensorStorage {
  /** Consecutive numbers of a row that are stored together. */
  readonly values: number;
  /** Bytes of those. */
  readonly bytes: number;
  readonly held: WeightDtype;
}

/**
 * Block sizes: ggml's `ggml-common.h`. Q8_0, Q4_0 and Q4_1 are held bit for bit; Q5_0, Q5_1 and Q6_K with the same integers and scales in
 * wider fields; the scales of Q4_K and Q5_K, products of a f16 and 6 bits there, are rounded to f16.
 */
export const TENSOR_TYPES = {
  F32: { values: 1, bytes: 4, held: 'f32' },
  BF16: { values: 1, bytes: 2, held: 'bf16' },
  F16: { values: 1, bytes: 2, held: 'f16' },
  Q8_0: { values: 32, bytes: 34, held: 'int8' },
  Q4_0: { values: 32, bytes: 18, held: 'int4' },
  Q4_1: { values: 32, bytes: 20, held: 'int4-min' },
  Q5_0: { values: 32, bytes: 22, held: 'int8' },
  Q5_1: { values: 32, bytes: 24, held: 'int8-min' },
  Q4_K: { values: 256, bytes: 144, held: 'int4-min' },
  Q5_K: { values: 256, bytes: 176, held: 'int8-min' },
  Q6_K: { values: 256, bytes: 210, held: 'int8-16' },
} as const satisfies Readonly<Record<string, TensorStorage>>;

export type TensorType = keyof typeof TENSOR_TYPES;
export type FloatType = 'F32' | 'BF16' | 'F16';
export type BlockType = Exclude<TensorType, FloatType>;

export function isFloatType(type: TensorType): type is FloatType {
  return TENSOR_TYPES[type].values === 1;
}

/** A tensor of a file; its rows are stored one after the other. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: TensorType;
  /** Slowest dimension first, the numbers of a row last. */
  readonly shape: readonly number[];
  /** Bytes in the file. */
  readonly begin: number;
  readonly end: number;
}

export const FLOAT_TYPE: Readonly<Record<FloatDtype, FloatType>> = { f32: 'F32', bf16: 'BF16', f16: 'F16' };
