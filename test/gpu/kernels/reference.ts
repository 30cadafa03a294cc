/** The transformer's kernels again, in float64 and without cleverness: what the shaders are compared with. */
import type { FloatDtype } from '../../../src/engine/kernels/dtype.ts';

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
