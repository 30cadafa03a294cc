/** Weights in blocks, by the words of shaders/lib/blocks.wgsl alone: what the products of such weights are compared with. */
import type { BlockDtype, WeightDtype } from '../../../src/engine/kernels/dtype.ts';
import { fromF16, random, type Stored, stored, toF16 } from './reference.ts';

export const BLOCK_DTYPES = ['int8', 'int8-min', 'int8-16', 'int4', 'int4-min'] as const;

export interface StoredWeight extends Stored {
  readonly scalesAt?: number;
}

const RUN = 32;
/** Each number of the rows in turn; `source` [rows][cols] only says how large the numbers of a block are. */
function blocks(dtype: BlockDtype, source: Float32Array, cols: number): StoredWeight & { readonly scalesAt: number } {
  const rows = source.length / cols;
  const runs = Math.ceil(cols / RUN);
  const bits = dtype.startsWith('int4') ? 4 : 8;
  const length = dtype === 'int8-16' ? 16 : RUN;
  const scaleBytes = { int8: 2, int4: 2, 'int8-min': 4, 'int4-min': 4, 'int8-16': 4 }[dtype];
  const scaleRow = Math.ceil(((runs * RUN) / length) * (scaleBytes / 4)) * 4;
  const rowBytes = (runs * RUN * bits) / 8;
  const bytes = new DataView(new ArrayBuffer(Math.ceil((rows * (rowBytes + scaleRow)) / 16) * 16));
  const values = new Float64Array(source.length);
  const rand = random(source.length + cols);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block * length < runs * RUN; block++) {
      const largest = Math.abs(source[row * cols + Math.min(block * length, cols - 1)]!) + 0.01;
      const half = toF16(largest / (bits === 4 ? 8 : 127));
      const minHalf = toF16(-largest * rand());
      const scale = dtype === 'int8-16' ? Math.fround(largest / 127) : fromF16(half);
      const min = dtype.endsWith('-min') ? fromF16(minHalf) : 0;
      const at = rows * rowBytes + row * scaleRow + block * scaleBytes;
      if (dtype === 'int8-16') bytes.setFloat32(at, scale, true);
      else bytes.setUint16(at, half, true);
      if (dtype.endsWith('-min')) bytes.setUint16(at + 2, minHalf, true);
      for (let i = 0; i < length; i++) {
        const k = block * length + i;
        const q = bits === 4 ? Math.floor(rand() * 16) : Math.floor(rand() * 256) - 128;
        const place = row * rowBytes + Math.floor((k * bits) / 8);
        if (bits === 8) bytes.setInt8(place, q);
        else bytes.setUint8(place, bytes.getUint8(place) | (q << (4 * (k % 2))));
        if (k < cols) values[row * cols + k] = scale * (dtype === 'int4' ? q - 8 : q) + min;
      }
    }
  }
  return { words: new Uint32Array(bytes.buffer), values, scalesAt: (rows * rowBytes) / 4 };
}

/** `stored`, for every dtype a weight may have: [rows][cols]. */
export function storedWeight(dtype: WeightDtype, source: Float32Array, cols: number): StoredWeight {
  return dtype === 'f32' || dtype === 'bf16' || dtype === 'f16' ? stored(dtype, source) : blocks(dtype, source, cols);
}
