import { beforeAll, describe, expect, it } from 'vitest';
import { embed } from '../../../src/engine/kernels/embed.ts';
import { rmsNorm } from '../../../src/engine/kernels/rms-norm.ts';
import { Bench, openDawn } from '../dawn.ts';
import { floats, random, rmsNormRow, stored } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 77;

describe('embed', () => {
  it.each([
    { dtype: 'f32', width: 33, scale: 1 },
    { dtype: 'bf16', width: 33, scale: 5.5 },
    { dtype: 'f16', width: 80, scale: 2 },
  ] as const)('gathers rows of a $dtype table of width $width', async ({ dtype, width, scale }) => {
    const vocabulary = 50;
    const table = stored(dtype, floats(random(1), vocabulary * width));
    const rows = [
      [0, 0, 49, 1],
      [1, 7, 3, 0],
      [2, 1, 0, 1],
      [0, 0, 17, 1],
    ];
    const out = bench.buffer(new Float32Array(4 * width).fill(FILL));
    await bench.run(
      embed({
        label: 'embed',
        bucket: 4,
        width,
        dtype,
        scale,
        rows: bench.buffer(Uint32Array.from(rows.flat())),
        weight: bench.buffer(table.words),
        out,
      }),
    );
    const got = new Float32Array(await bench.read(out));
    rows.forEach(([, , token, active], r) => {
      for (let i = 0; i < width; i++) {
        const want = active ? Math.fround(table.values[token! * width + i]! * scale) : FILL;
        expect(got[r * width + i]).toBe(want);
      }
    });
  });
});

describe.each(['scalar', 'wide'] as const)('rms norm %s', (variant) => {
  it.each([
    { width: 256, bucket: 1, count: 1, offset: 0, gathered: false },
    { width: 63, bucket: 32, count: 21, offset: 1, gathered: false },
    { width: 1028, bucket: 8, count: 5, offset: 0, gathered: true },
  ])('width $width, $count of $bucket rows, gathered $gathered', async ({ width, bucket, count, offset, gathered }) => {
    const rand = random(width);
    const inputRows = 40;
    const input = floats(rand, inputRows * width, 3);
    const weight = floats(rand, width);
    const list = 5;
    const words = new Uint32Array(list + 2 * bucket);
    words[2] = count;
    const source = Array.from({ length: bucket }, (_x, r) => (gathered ? (r * 17 + 3) % inputRows : r));
    source.forEach((row, r) => {
      words[list + 2 * r] = gathered ? row : 0;
    });
    const out = bench.buffer(new Float32Array(bucket * width).fill(FILL));
    await bench.run(
      rmsNorm({
        label: 'norm',
        variant,
        bucket,
        width,
        eps: 1e-6,
        offset,
        step: bench.buffer(words),
        countWord: 2,
        gather: gathered ? list : null,
        input: bench.buffer(input),
        weight: bench.buffer(weight),
        out,
      }),
    );
    const got = new Float32Array(await bench.read(out));
    for (let r = 0; r < bucket; r++) {
      const at = source[r]! * width;
      const want = rmsNormRow([...input.subarray(at, at + width)], [...weight], 1e-6, offset);
      for (let i = 0; i < width; i++) {
        const expected = r < count ? want[i]! : FILL;
        expect(Math.abs(got[r * width + i]! - expected)).toBeLessThan(2e-6 * (1 + Math.abs(expected)));
      }
    }
  });
});
