/** The transformer's kernels again, in float64 and without cleverness: what the shaders are compared with. */
import type { FloatDtype, KvDtype } from '../../../src/engine/kernels/dtype.ts';

export type Random = () => number;

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
export function random(seed: number): Random {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `n` numbers, uniform in [-scale, scale], rounded to f32. */
export function floats(rand: Random, n: number, scale = 1): Float32Array {
  return Float32Array.from({ length: n }, () => (2 * rand() - 1) * scale);
}

const view = new DataView(new ArrayBuffer(4));

/** The 16-bit pattern of the nearest bf16, ties to even. */
export function toBf16(x: number): number {
  view.setFloat32(0, x);
  const bits = view.getUint32(0);
  const low = bits & 0xffff;
  const up = low > 0x8000 || (low === 0x8000 && (bits & 0x10000) !== 0);
  return ((bits >>> 16) + (up ? 1 : 0)) & 0xffff;
}

export function fromBf16(bits: number): number {
  view.setUint32(0, bits << 16);
  return view.getFloat32(0);
}

export function fromF16(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

/** The 16-bit pattern of the nearest f16 (largest magnitude 65504), ties to even. */
export function toF16(x: number): number {
  const size = Math.min(Math.abs(x), 65504);
  const exponent = Math.max(Math.floor(Math.log2(size || 1e-30)), -14);
  const unit = 2 ** (exponent - 10);
  const steps = size / unit;
  let whole = Math.floor(steps);
  const rest = steps - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2 === 1)) whole++;
  // A carry out of the fraction runs into the exponent, as it should.
  const bits = exponent === -14 && whole < 1024 ? whole : ((exponent + 15) << 10) + whole - 1024;
  return x < 0 ? bits | 0x8000 : bits;
}

export interface Stored {
  /** As the GPU holds it. */
  readonly words: Uint32Array;
  /** What it holds. */
  readonly values: Float64Array;
}

/** Numbers in a storage type, and what is left of them there. */
export function stored(dtype: FloatDtype, source: Float32Array): Stored {
  if (dtype === 'f32') return { words: new Uint32Array(source.slice().buffer), values: Float64Array.from(source) };
  const halves = new Uint16Array(source.length + (source.length % 2));
  const [to, from] = dtype === 'bf16' ? [toBf16, fromBf16] : [toF16, fromF16];
  source.forEach((x, i) => {
    halves[i] = to(x);
  });
  return { words: new Uint32Array(halves.buffer), values: Float64Array.from(source, (_x, i) => from(halves[i]!)) };
}

/** The numbers that words hold. */
export function unstored(dtype: FloatDtype, words: ArrayBuffer): Float64Array {
  if (dtype === 'f32') return Float64Array.from(new Float32Array(words));
  return Float64Array.from(new Uint16Array(words), dtype === 'bf16' ? fromBf16 : fromF16);
}

/** How int8 K and V lie in a pool: heads of `headDim` numbers, `perBlock` of them (token by token) before their scales. */
export interface Int8Layout {
  readonly headDim: number;
  readonly perBlock: number;
}

/** The least f16 that is not below largest |x| / 127; at most its largest. */
export function int8Scale(head: ArrayLike<number>): number {
  const scale = Array.from(head).reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127;
  const nearest = toF16(scale);
  return fromF16(Math.min(fromF16(nearest) < scale ? nearest + 1 : nearest, 0x7bff));
}

/** The same for K and V: heads of numbers, block by block. */
export function storedKv(dtype: KvDtype, source: Float32Array, { headDim, perBlock }: Int8Layout): Stored {
  if (dtype !== 'int8') return stored(dtype, source);
  const heads = source.length / headDim;
  const blockBytes = perBlock * (headDim + 2);
  const bytes = new DataView(new ArrayBuffer((heads / perBlock) * blockBytes));
  const values = new Float64Array(source.length);
  for (let h = 0; h < heads; h++) {
    const head = source.subarray(h * headDim, (h + 1) * headDim);
    const scale = int8Scale(head);
    const block = Math.floor(h / perBlock) * blockBytes;
    bytes.setUint16(block + perBlock * headDim + 2 * (h % perBlock), toF16(scale), true);
    head.forEach((x, d) => {
      const q = scale === 0 ? 0 : Math.max(-127, Math.min(127, Math.round(x / scale)));
      bytes.setInt8(block + (h % perBlock) * headDim + d, q);
      values[h * headDim + d] = q * scale;
    });
  }
  return { words: new Uint32Array(bytes.buffer), values };
}

/** Numbers that the words of a pool hold, and (int8) the scale of each head. */
export function unstoredKv(
  dtype: KvDtype,
  words: ArrayBuffer,
  { headDim, perBlock }: Int8Layout,
): { values: Float64Array; scales: Float64Array } {
  if (dtype !== 'int8') return { values: unstored(dtype, words), scales: new Float64Array() };
  const bytes = new DataView(words);
  const blockBytes = perBlock * (headDim + 2);
  const heads = (words.byteLength / blockBytes) * perBlock;
  const block = (h: number) => Math.floor(h / perBlock) * blockBytes;
  const scales = Float64Array.from({ length: heads }, (_x, h) =>
    fromF16(bytes.getUint16(block(h) + perBlock * headDim + 2 * (h % perBlock), true)),
  );
  const values = Float64Array.from({ length: heads * headDim }, (_x, i) => {
    const h = Math.floor(i / headDim);
    return bytes.getInt8(block(h) + (h % perBlock) * headDim + (i % headDim)) * scales[h]!;
  });
  return { values, scales };
}

type Numbers = ArrayLike<number>;

/** sum_k x[row][k] w[line][k], and the sum of magnitudes, by which errors are judged. */
export function dot(x: Numbers, row: number, w: Numbers, line: number, k: number): { sum: number; size: number } {
  let sum = 0;
  let size = 0;
  for (let i = 0; i < k; i++) {
    const p = x[row * k + i]! * w[line * k + i]!;
    sum += p;
    size += Math.abs(p);
  }
  return { sum, size };
}

export const activations = {
  silu: (x: number): number => x / (1 + Math.exp(-x)),
  gelu_tanh: (x: number): number => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
} as const;

export function rmsNormRow(x: readonly number[], weight: readonly number[], eps: number, offset: number): number[] {
  const mean = x.reduce((sum, v) => sum + v * v, 0) / x.length;
  return x.map((v, i) => (v / Math.sqrt(mean + eps)) * (weight[i]! + offset));
}

/** HF's "rotate half": x[i] cos - x[i + h] sin, x[i + h] cos + x[i] sin, for i < h = rotaryDim / 2. */
export function rotate(x: readonly number[], position: number, invFreq: Numbers, rotaryDim: number): number[] {
  const half = rotaryDim / 2;
  return x.map((v, d) => {
    if (d >= rotaryDim) return v;
    const angle = position * invFreq[d % half]!;
    const other = d < half ? -x[d + half]! : x[d - half]!;
    return v * Math.cos(angle) + other * Math.sin(angle);
  });
}

/** softmax(cap(scale q . K)) V over the given keys and values. */
export function attend(
  q: readonly number[],
  keys: readonly (readonly number[])[],
  values: readonly (readonly number[])[],
  scale: number,
  softcap: number,
): number[] {
  const scores = keys.map((k) => {
    const s = scale * k.reduce((sum, x, i) => sum + x * q[i]!, 0);
    return softcap > 0 ? softcap * Math.tanh(s / softcap) : s;
  });
  const top = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = scores.map((s) => Math.exp(s - top));
  const total = weights.reduce((a, b) => a + b, 0);
  return q.map((_x, d) => weights.reduce((sum, w, i) => sum + w * values[i]![d]!, 0) / total);
}
