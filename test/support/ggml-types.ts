/**
 * ggml's tensor types, each written and read by the definition of its block (`ggml-common.h`), number by number and in float64: what the
 * product's own repacking is compared with. Encoders are simple, not ggml's best: scales from the extremes of a block.
 */
import { fromBf16, fromF16, toBf16, toF16 } from '../gpu/kernels/reference.ts';
import type { GgmlType } from './gguf-file.ts';

interface Codec {
  readonly values: number;
  readonly bytes: number;
  encode(x: Float32Array, to: DataView): void;
  decode(from: DataView, i: number): number;
}

const clamp = (q: number, low: number, high: number) => Math.min(high, Math.max(low, Math.round(q)));
function span(x: Float32Array): { low: number; high: number; most: number } {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const v of x) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return { low, high, most: Math.max(high, -low) };
}
const half = (view: DataView, at: number) => fromF16(view.getUint16(at, true));
/** Stores the nearest f16, gives it back. */
const putHalf = (view: DataView, at: number, x: number): number => {
  view.setUint16(at, toF16(x), true);
  return half(view, at);
};
const or = (view: DataView, at: number, bits: number) => view.setUint8(at, view.getUint8(at) | bits);

const float = (bytes: number, put: (v: DataView, x: number) => void, get: (v: DataView) => number): Codec => ({
  values: 1,
  bytes,
  encode: (x, to) => put(to, x[0]!),
  decode: (from) => get(from),
});

/** Blocks of 32 with 4 or 5 bits a number: low nibbles are numbers 0 to 15, fifth bits a u32 before them. */
function small(bits: 4 | 5, withMin: boolean): Codec {
  const scales = withMin ? 4 : 2;
  const nibbles = scales + (bits === 5 ? 4 : 0);
  const zero = withMin ? 0 : 2 ** (bits - 1);
  return {
    values: 32,
    bytes: nibbles + 16,
    encode(x, to) {
      const { low, high, most } = span(x);
      const levels = 2 ** bits - 1;
      const d = putHalf(to, 0, withMin ? (high - low) / levels : most / (zero - 1));
      const m = withMin ? putHalf(to, 2, low) : 0;
      x.forEach((v, i) => {
        const q = clamp(d === 0 ? 0 : (v - m) / d + zero, 0, levels);
        or(to, nibbles + (i % 16), (q & 15) << (i < 16 ? 0 : 4));
        if (bits === 5) to.setUint32(scales, (to.getUint32(scales, true) | ((q >> 4) << i)) >>> 0, true);
      });
    },
    decode(from, i) {
      const nibble = (from.getUint8(nibbles + (i % 16)) >> (i < 16 ? 0 : 4)) & 15;
      const fifth = bits === 5 ? (from.getUint32(scales, true) >>> i) & 1 : 0;
      return half(from, 0) * (nibble + 16 * fifth - zero) + (withMin ? half(from, 2) : 0);
    },
  };
}

/** The 6-bit scale and min of sub-block j, as ggml packs eight of each into twelve bytes. */
function scaleMin(view: DataView, at: number, j: number): { scale: number; min: number } {
  const b = (i: number) => view.getUint8(at + i);
  if (j < 4) return { scale: b(j) & 63, min: b(j + 4) & 63 };
  return { scale: (b(j + 4) & 15) + 16 * (b(j - 4) >> 6), min: (b(j + 4) >> 4) + 16 * (b(j) >> 6) };
}

function putScaleMin(view: DataView, at: number, j: number, scale: number, min: number): void {
  if (j < 4) {
    or(view, at + j, scale);
    or(view, at + j + 4, min);
    return;
  }
  or(view, at + j + 4, (scale & 15) | ((min & 15) << 4));
  or(view, at + j - 4, (scale >> 4) << 6);
  or(view, at + j, (min >> 4) << 6);
}

/** Q4_K and Q5_K: 256 numbers, eight sub-blocks of 32 with 6-bit scales and minima of two f16. */
function superBlock(bits: 4 | 5): Codec {
  const high = 16;
  const low = bits === 5 ? 48 : 16;
  const levels = 2 ** bits - 1;
  return {
    values: 256,
    bytes: low + 128,
    encode(x, to) {
      const subs = Array.from({ length: 8 }, (_, j) => span(x.subarray(32 * j, 32 * j + 32)));
      const scales = subs.map((s) => (s.high - Math.min(0, s.low)) / levels);
      const mins = subs.map((s) => -Math.min(0, s.low));
      const d = putHalf(to, 0, Math.max(...scales) / 63);
      const dmin = putHalf(to, 2, Math.max(...mins) / 63);
      for (let j = 0; j < 8; j++) {
        const scale = clamp(d === 0 ? 0 : scales[j]! / d, 0, 63);
        const min = clamp(dmin === 0 ? 0 : mins[j]! / dmin, 0, 63);
        putScaleMin(to, 4, j, scale, min);
        for (let i = 0; i < 32; i++) {
          const q = clamp(d * scale === 0 ? 0 : (x[32 * j + i]! + dmin * min) / (d * scale), 0, levels);
          or(to, low + 32 * (j >> 1) + i, (q & 15) << (4 * (j & 1)));
          if (bits === 5) or(to, high + i, (q >> 4) << j);
        }
      }
    },
    decode(from, i) {
      const j = i >> 5;
      const { scale, min } = scaleMin(from, 4, j);
      const nibble = (from.getUint8(low + 32 * (j >> 1) + (i & 31)) >> (4 * (j & 1))) & 15;
      const fifth = bits === 5 ? (from.getUint8(high + (i & 31)) >> j) & 1 : 0;
      return half(from, 0) * scale * (nibble + 16 * fifth) - half(from, 2) * min;
    },
  };
}

const Q6_K: Codec = {
  values: 256,
  bytes: 210,
  encode(x, to) {
    const most = Array.from({ length: 16 }, (_, j) => span(x.subarray(16 * j, 16 * j + 16)).most / 31);
    const d = putHalf(to, 208, Math.max(...most) / 127);
    for (let j = 0; j < 16; j++) {
      const scale = clamp(d === 0 ? 0 : most[j]! / d, -128, 127);
      to.setInt8(192 + j, scale);
      for (let i = 16 * j; i < 16 * j + 16; i++) {
        const q = clamp(d * scale === 0 ? 0 : x[i]! / (d * scale), -32, 31) + 32;
        const quarter = (i % 128) >> 5;
        or(to, 64 * (i >> 7) + 32 * (quarter & 1) + (i & 31), (q & 15) << (quarter < 2 ? 0 : 4));
        or(to, 128 + 32 * (i >> 7) + (i & 31), (q >> 4) << (2 * quarter));
      }
    }
  },
  decode(from, i) {
    const quarter = (i % 128) >> 5;
    const low = (from.getUint8(64 * (i >> 7) + 32 * (quarter & 1) + (i & 31)) >> (quarter < 2 ? 0 : 4)) & 15;
    const high = (from.getUint8(128 + 32 * (i >> 7) + (i & 31)) >> (2 * quarter)) & 3;
    return half(from, 208) * from.getInt8(192 + (i >> 4)) * (low + 16 * high - 32);
  },
};

const Q8_0: Codec = {
  values: 32,
  bytes: 34,
  encode(x, to) {
    const d = putHalf(to, 0, span(x).most / 127);
    x.forEach((v, i) => {
      to.setInt8(2 + i, clamp(d === 0 ? 0 : v / d, -127, 127));
    });
  },
  decode: (from, i) => half(from, 0) * from.getInt8(2 + i),
};

export const CODECS: Readonly<Record<Exclude<GgmlType, 'Q2_K'>, Codec>> = {
  F32: float(
    4,
    (v, x) => v.setFloat32(0, x, true),
    (v) => v.getFloat32(0, true),
  ),
  F16: float(
    2,
    (v, x) => v.setUint16(0, toF16(x), true),
    (v) => fromF16(v.getUint16(0, true)),
  ),
  BF16: float(
    2,
    (v, x) => v.setUint16(0, toBf16(x), true),
    (v) => fromBf16(v.getUint16(0, true)),
  ),
  Q8_0,
  Q4_0: small(4, false),
  Q4_1: small(4, true),
  Q5_0: small(5, false),
  Q5_1: small(5, true),
  Q4_K: superBlock(4),
  Q5_K: superBlock(5),
  Q6_K,
};
export type StoredType = keyof typeof CODECS;

/** Numbers as a tensor's bytes. */
export function encode(type: StoredType, x: Float32Array): Uint8Array<ArrayBuffer> {
  if (type === 'F32') return new Uint8Array(Float32Array.from(x).buffer);
  const { values, bytes, encode: put } = CODECS[type];
  const out = new Uint8Array((x.length / values) * bytes);
  for (let block = 0; block * values < x.length; block++)
    put(x.subarray(block * values, (block + 1) * values), new DataView(out.buffer, block * bytes, bytes));
  return out;
}

/** The numbers of a tensor's bytes, in float64. */
export function decode(type: StoredType, from: Uint8Array): Float64Array {
  const { values, bytes, decode: get } = CODECS[type];
  const numbers = new Float64Array((from.byteLength / bytes) * values);
  for (let first = 0; first < numbers.length; first += values) {
    const view = new DataView(from.buffer, from.byteOffset + (first / values) * bytes, bytes);
    for (let i = 0; i < values; i++) numbers[first + i] = get(view, i);
  }
  return numbers;
}
