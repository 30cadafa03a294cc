import type { TensorDtype } from './safetensors.ts';

/** Values of a tensor's bytes (little-endian) as f32; bf16 and f16 widen exactly. */
export function widen(bytes: Uint8Array, dtype: TensorDtype): Float32Array<ArrayBuffer> {
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
function f16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
