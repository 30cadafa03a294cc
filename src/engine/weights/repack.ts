import { scaleBytes, type WeightLayout, weightLayout } from '../kernels/dtype.ts';
import { f16, toF16 } from './float16.ts';
import { type BlockType, TENSOR_TYPES } from './tensor-types.ts';

/** Rows of a weight as its buffer holds them. */
export interface PackedRows {
  readonly integers: Uint8Array<ArrayBuffer>;
  readonly scales: Uint8Array<ArrayBuffer>;
}

/** One block: `from` of the file from byte `at`, into integers from byte `q` and scales from byte `s`. */
type RepackBlock = (from: Uint8Array, at: number, to: Rows, q: number, s: number) => void;
interface Rows {
  readonly integers: Uint8Array<ArrayBuffer>;
  readonly scales: DataView<ArrayBuffer>;
}

/** Whole rows of `cols` numbers of a quantized tensor, as `weightLayout` of its dtype has them. */
export function repackRows(type: BlockType, from: Uint8Array, cols: number): PackedRows {
  const { values, bytes, held } = TENSOR_TYPES[type];
  const blocks = cols / values;
  const rows = from.byteLength / (blocks * bytes);
  const layout: WeightLayout = weightLayout(held, rows, cols);
  const to: Rows = {
    integers: new Uint8Array(rows * layout.rowBytes),
    scales: new DataView(new ArrayBuffer(rows * layout.scaleRowBytes)),
  };
  const repack = REPACK[type];
  const integers = layout.rowBytes / blocks;
  const scales = scaleBytes(held, values);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const s = row * layout.scaleRowBytes + block * scales;
      repack(from, (row * blocks + block) * bytes, to, row * layout.rowBytes + block * integers, s);
    }
  }
  return { integers: to.integers, scales: new Uint8Array(to.scales.buffer) };
}

/** The blocks of ggml's `ggml-common.h`, their formulas in its `ggml-quants.c`, `dequantize_row_*`. */
const REPACK: Readonly<Record<BlockType, RepackBlock>> = {
  Q8_0(from, at, { integers, scales }, q, s) {
    scales.setUint16(s, half(from, at), true);
    for (let i = 0; i < 32; i++) integers[q + i] = from[at + 2 + i]!;
  },
  Q4_0(from, at, { integers, scales }, q, s) {
    scales.setUint16(s, half(from, at), true);
    nibbles(from, at + 2, integers, q);
  },
  Q4_1(from, at, { integers, scales }, q, s) {
    scales.setUint16(s, half(from, at), true);
    scales.setUint16(s + 2, half(from, at + 2), true);
    nibbles(from, at + 4, integers, q);
  },
  Q5_0(from, at, { integers, scales }, q, s) {
    scales.setUint16(s, half(from, at), true);
    for (let i = 0; i < 32; i++) integers[q + i] = five(from, at + 2, i) - 16;
  },
  Q5_1(from, at, { integers, scales }, q, s) {
    scales.setUint16(s, half(from, at), true);
    scales.setUint16(s + 2, half(from, at + 2), true);
    for (let i = 0; i < 32; i++) integers[q + i] = five(from, at + 4, i);
  },
  Q4_K(from, at, { integers, scales }, q, s) {
    scalesAndMins(from, at, scales, s);
    for (let pair = 0; pair < 4; pair++) {
      const low = at + 16 + 32 * pair;
      for (let i = 0; i < 16; i++) {
        const [a, b] = [from[low + 2 * i]!, from[low + 2 * i + 1]!];
        integers[q + 32 * pair + i] = (a & 15) | ((b & 15) << 4);
        integers[q + 32 * pair + 16 + i] = (a >> 4) | (b & 0xf0);
      }
    }
  },
  Q5_K(from, at, { integers, scales }, q, s) {
    scalesAndMins(from, at, scales, s);
    for (let pair = 0; pair < 4; pair++) {
      for (let i = 0; i < 32; i++) {
        const low = from[at + 48 + 32 * pair + i]!;
        const high = from[at + 16 + i]! >> (2 * pair);
        integers[q + 64 * pair + i] = (low & 15) | ((high & 1) << 4);
        integers[q + 64 * pair + 32 + i] = (low >> 4) | ((high & 2) << 3);
      }
    }
  },
  Q6_K(from, at, { integers, scales }, q, s) {
    const d = f16(half(from, at + 208));
    for (let i = 0; i < 16; i++) scales.setFloat32(s + 4 * i, d * ((from[at + 192 + i]! << 24) >> 24), true);
    for (let part = 0; part < 2; part++) {
      for (let i = 0; i < 32; i++) {
        const high = from[at + 128 + 32 * part + i]!;
        for (let quarter = 0; quarter < 4; quarter++) {
          const low = from[at + 64 * part + 32 * (quarter % 2) + i]! >> (quarter < 2 ? 0 : 4);
          integers[q + 128 * part + 32 * quarter + i] = ((low & 15) | (((high >> (2 * quarter)) & 3) << 4)) - 32;
        }
      }
    }
  },
};

function half(from: Uint8Array, at: number): number {
  return from[at]! | (from[at + 1]! << 8);
}

/** 16 bytes with numbers 0 to 15 in their low nibbles and 16 to 31 in the high ones, into numbers in their order. */
function nibbles(from: Uint8Array, at: number, to: Uint8Array, q: number): void {
  for (let i = 0; i < 8; i++) {
    const [a, b] = [from[at + 2 * i]!, from[at + 2 * i + 1]!];
    to[q + i] = (a & 15) | ((b & 15) << 4);
    to[q + 8 + i] = (a >> 4) | (b & 0xf0);
  }
}

/** Number `i` of 32 with their fifth bits in the first four bytes and the others as `nibbles` has them. */
function five(from: Uint8Array, at: number, i: number): number {
  const fifth = (from[at + (i >> 3)]! >> (i & 7)) & 1;
  const low = from[at + 4 + (i & 15)]!;
  return (i < 16 ? low & 15 : low >> 4) | (fifth << 4);
}

/** d * scale and -dmin * min of eight blocks of 32, each rounded once to f16; `at`: d, dmin, then twelve bytes of 6-bit numbers. */
function scalesAndMins(from: Uint8Array, at: number, to: DataView, s: number): void {
  const d = f16(half(from, at));
  const dmin = f16(half(from, at + 2));
  const six = (i: number) => from[at + 4 + i]!;
  for (let j = 0; j < 8; j++) {
    const scale = j < 4 ? six(j) & 63 : (six(j + 4) & 15) | ((six(j - 4) >> 6) << 4);
    const min = j < 4 ? six(j + 4) & 63 : (six(j + 4) >> 4) | ((six(j) >> 6) << 4);
    to.setUint16(s + 4 * j, toF16(d * scale), true);
    to.setUint16(s + 4 * j + 2, toF16(-dmin * min), true);
  }
}
