import { isBlockDtype, weightLayout } from '../kernels/dtype.ts';
import { f16, widen } from './float16.ts';
import type { LoadedWeight } from './loaded.ts';
import { FLOAT_TYPE } from './tensor-types.ts';

/** What a loaded weight's bytes say of its shape. */
export type PackedShape = Pick<LoadedWeight, 'dtype' | 'scalesAt' | 'cols'>;

/** Row `row` of a weight from the bytes of its buffer, as numbers: the formulas of `lib/blocks.wgsl`, in float64 and rounded once. */
export function unpackRow(bytes: Uint8Array, { dtype, scalesAt, cols }: PackedShape, row: number): Float32Array {
  if (!isBlockDtype(dtype)) {
    const size = dtype === 'f32' ? 4 : 2;
    return widen(bytes.subarray(row * cols * size, (row + 1) * cols * size), FLOAT_TYPE[dtype]);
  }
  const { rowBytes, scaleRowBytes } = weightLayout(dtype, 1, cols);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const half = (at: number) => f16(view.getUint16(at, true));
  const scales = 4 * scalesAt + row * scaleRowBytes;
  const byte = (k: number) => bytes[row * rowBytes + k]!;
  const signed = (k: number) => (byte(k) << 24) >> 24;
  const nibble = (k: number) => (bytes[row * rowBytes + (k >> 1)]! >> (4 * (k & 1))) & 15;
  const number: (k: number) => number = {
    int8: (k: number) => half(scales + 2 * (k >> 5)) * signed(k),
    int4: (k: number) => half(scales + 2 * (k >> 5)) * (nibble(k) - 8),
    'int8-16': (k: number) => view.getFloat32(scales + 4 * (k >> 4), true) * signed(k),
    'int8-min': (k: number) => withMin(scales + 4 * (k >> 5), signed(k)),
    'int4-min': (k: number) => withMin(scales + 4 * (k >> 5), nibble(k)),
  }[dtype];
  const withMin = (at: number, q: number) => half(at) * q + half(at + 2);
  return Float32Array.from({ length: cols }, (_, k) => number(k));
}

/** A part of a weight, and the bytes of its buffer. */
export type PackedPart = Omit<LoadedWeight, 'buffer'> & { readonly bytes: Uint8Array };

/** All of a weight from all of its parts: its matrices one after the other, whole again. */
export function unpackWeight(parts: readonly PackedPart[]): { rows: number; cols: number; values: Float32Array } {
  const cols = parts[0]!.cols;
  const of = parts.reduce((sum, { outputs }) => sum + outputs, 0);
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const values = new Float32Array(rows * cols);
  for (const part of parts) {
    for (let row = 0; row < part.rows; row++) {
      const whole = Math.floor(row / part.outputs) * of + part.firstOutput + (row % part.outputs);
      values.set(unpackRow(part.bytes, part, row), whole * cols);
    }
  }
  return { rows, cols, values };
}
