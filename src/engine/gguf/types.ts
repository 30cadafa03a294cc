import type { TensorType } from '../weights/tensor-types.ts';

/** Tensor types by their number: ggml's `ggml.h`, `enum ggml_type`. What this engine reads has the same name in `TENSOR_TYPES`. */
const GGML_TYPES: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  6: 'Q5_0',
  7: 'Q5_1',
  8: 'Q8_0',
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q4_K',
  13: 'Q5_K',
  14: 'Q6_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  30: 'BF16',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** Name of a tensor type; its number where ggml has added it since. */
export function ggmlTypeName(type: number): TensorType | (string & {}) {
  return GGML_TYPES[type] ?? `type ${type}`;
}

/** What a metadata value may be; strings and arrays are held whole, integers beyond 2^53 are refused. */
export type GgufScalar = number | boolean | string;
export type GgufValue = GgufScalar | readonly GgufScalar[];
export type GgufMetadata = ReadonlyMap<string, GgufValue>;
