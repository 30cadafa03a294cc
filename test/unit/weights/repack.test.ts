import { describe, expect, test } from 'vitest';
import { weightLayout } from '../../../src/engine/kernels/dtype.ts';
import { f16, toF16 } from '../../../src/engine/weights/float16.ts';
import { repackRows } from '../../../src/engine/weights/repack.ts';
import {
  type BlockType,
  isFloatType,
  TENSOR_TYPES,
  type TensorType,
} from '../../../src/engine/weights/tensor-types.ts';
import { unpackWeight } from '../../../src/engine/weights/unpack.ts';
import { random, toF16 as referenceToF16 } from '../../gpu/kernels/reference.ts';
import { CODECS, decode } from '../../support/ggml-types.ts';

const TYPES = (Object.keys(TENSOR_TYPES) as TensorType[]).filter((t): t is BlockType => !isFloatType(t));

/** Blocks of random bits, with scales that are finite and of all sizes, subnormal ones among them. */
function randomBlocks(type: BlockType, blocks: number): Uint8Array {
  const rand = random(blocks + type.length);
  const { bytes } = CODECS[type];
  const out = Uint8Array.from({ length: blocks * bytes }, () => rand() * 256);
  const view = new DataView(out.buffer);
  const scaleAt = type === 'Q6_K' ? [208] : /_1$|_K$/.test(type) ? [0, 2] : [0];
  for (let block = 0; block < blocks; block++)
    for (const at of scaleAt)
      view.setUint16(block * bytes + at, referenceToF16((rand() - 0.5) * 2 ** (-20 * rand())), true);
  return out;
}

/** What the buffer of a weight of these rows holds, as numbers. */
function numbers(type: BlockType, file: Uint8Array, rows: number, cols: number): Float32Array {
  const { held } = TENSOR_TYPES[type];
  const layout = weightLayout(held, rows, cols);
  const { integers, scales } = repackRows(type, file, cols);
  expect([integers.byteLength, scales.byteLength]).toEqual([rows * layout.rowBytes, rows * layout.scaleRowBytes]);
  const bytes = new Uint8Array(layout.bytes);
  bytes.set(integers);
  bytes.set(scales, layout.scalesAt);
  const part = { bytes, dtype: held, scalesAt: layout.scalesAt / 4, firstOutput: 0, outputs: rows, rows, cols };
  return unpackWeight([part]).values;
}

describe('blocks of ggml in the layout of a weight', () => {
  test.each(TYPES.filter((t) => t !== 'Q4_K' && t !== 'Q5_K'))('%s keeps every number', (type) => {
    const [rows, cols] = type.endsWith('_K') ? [7, 768] : [7, 96];
    const file = randomBlocks(type, (rows * cols) / CODECS[type].values);
    // + 0: the sign of a zero is no matter.
    const found = numbers(type, file, rows, cols).map((x) => x + 0);
    expect(found).toEqual(Float32Array.from(decode(type, file), (x) => x + 0));
  });

  test.each(['Q4_K', 'Q5_K'] as const)('%s rounds its scales and minima to f16, and nothing else', (type) => {
    const [rows, cols] = [40, 512];
    const file = randomBlocks(type, (rows * cols) / 256);
    const got = numbers(type, file, rows, cols);
    const most = type === 'Q4_K' ? 15 : 31;
    let worst = 0;
    decode(type, file).forEach((want, i) => {
      const block = Math.floor(i / 256);
      const view = new DataView(file.buffer, block * CODECS[type].bytes);
      const [d, dmin] = [f16(view.getUint16(0, true)), f16(view.getUint16(2, true))];
      // Half a unit in the last of 11 bits of each, or of a subnormal f16; times the largest integer for the scale.
      const bound = (Math.abs(d) * 63 * most + Math.abs(dmin) * 63) * 2 ** -11 + (most + 1) * 2 ** -25;
      const error = Math.abs(got[i]! - want);
      worst = Math.max(worst, error / bound);
      if (error > bound) expect.fail(`number ${i}: ${got[i]}, expected ${want} within ${bound}`);
    });
    expect(worst).toBeGreaterThan(0.1);
  });

  test('types that a layout of ours holds as they are do not grow', () => {
    for (const type of ['Q8_0', 'Q4_0', 'Q4_1'] as const) {
      const { values, bytes, held } = TENSOR_TYPES[type];
      expect(weightLayout(held, 100, 4096).bytes).toBe((100 * 4096 * bytes) / values);
    }
  });
});

test('toF16 rounds to nearest, ties to even, and stays finite', () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    expect(toF16(f16(bits))).toBe(bits);
    const middle = (f16(bits) + f16(bits + 1)) / 2;
    if (bits + 1 < 0x7c00) expect(toF16(middle)).toBe(bits % 2 === 0 ? bits : bits + 1);
  }
  expect([toF16(-0.5), toF16(1e9), toF16(-1e9)]).toEqual([0xb800, 0x7bff, 0xfbff]);
});
