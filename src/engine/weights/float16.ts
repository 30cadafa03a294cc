import type { FloatType } from './tensor-types.ts';

/** Values of a tensor's bytes (little-endian) as f32; bf16 and f16 widen exactly. */
export function widen(bytes: Uint8Array, dtype: FloatType): Float32Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === 'F32') {
    return Float32Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  const out = new Float32Array(bytes.byteLength / 2);
  const words = new Uint32Array(out.buffer);
  for (let i = 0; i < out.length; i++) {
    const half = view.getUint16(2 * i, true);
    if (dtype === 'BF16') words[i] = half << 16;
    else out[i] = f16(half);
  }
  return out;
}

/** Value of an IEEE 754 binary16. */
export function f16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The nearest IEEE 754 binary16, ties to even; larger magnitudes than its largest become that, +-65504, since infinite ones would spread. */
export function toF16(x: number): number {
  const size = Math.min(Math.abs(x), 65504);
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 2 ** -24)));
  const steps = size / 2 ** (exponent - 10);
  const whole = Math.floor(steps);
  const rest = steps - whole;
  const rounded = whole + Number(rest > 0.5 || (rest === 0.5 && whole % 2 === 1));
  // A carry out of the fraction runs into the exponent, as it should; below 2^-14 there is no leading 1.
  const bits = (exponent + 14) * 1024 + rounded;
  return x < 0 ? bits | 0x8000 : bits;
}

/**
 * Heads whose rows lie pair by pair (llama.cpp's order of llama's q and k: rows i and i + half of a head are its rows 2i and 2i + 1)
 * with the rows of a pair half a head apart again, as `rope_kv.wgsl` turns them. rowBytes: of a row; rows: of a head.
 */
export function sideBySide(bytes: Uint8Array, rowBytes: number, rows: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes.byteLength);
  for (let head = 0; head < bytes.byteLength; head += rows * rowBytes) {
    for (let row = 0; row < rows; row++) {
      const from = head + ((row % (rows / 2)) * 2 + Math.floor(row / (rows / 2))) * rowBytes;
      out.set(bytes.subarray(from, from + rowBytes), head + row * rowBytes);
    }
  }
  return out;
}
