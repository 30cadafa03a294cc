import type { EmbedsDtype } from '../../src/protocol/prompt-embeds.ts';

/** Numbers of little-endian floats. */
export function widened(bytes: Uint8Array, dtype: EmbedsDtype): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = dtype === 'f32' ? 4 : 2;
  return Array.from({ length: bytes.byteLength / size }, (_, i) => {
    if (dtype === 'f32') return view.getFloat32(4 * i, true);
    const bits = view.getUint16(2 * i, true);
    if (dtype === 'bf16') {
      const word = new DataView(new ArrayBuffer(4));
      word.setUint16(0, bits);
      return word.getFloat32(0);
    }
    const fraction = bits & 0x3ff;
    const exponent = (bits >> 10) & 0x1f;
    const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits >> 15 === 1 ? -magnitude : magnitude;
  });
}
