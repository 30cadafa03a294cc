import { beforeAll, describe, expect, it } from 'vitest';
import { embed } from '../../../src/engine/kernels/embed.ts';
import { rmsNorm } from '../../../src/engine/kernels/rms-norm.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
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
        tokens: { first: 0, count: 50 },
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

const LIST = 5;

interface NormCase {
  readonly width: number;
  readonly eps: number;
  readonly offset: number;
  readonly input: Float32Array;
  readonly weight: Float32Array;
  /** Input row of each output row, in a dispatch of `bucket` rows. */
  readonly source: readonly number[];
  readonly bucket: number;
  readonly gathered: boolean;
  readonly accumulate: boolean;
}

async function norm(variant: KernelVariant, c: NormCase): Promise<Float32Array> {
  const words = new Uint32Array(LIST + 2 * c.bucket);
  words[2] = c.source.length;
  if (c.gathered) {
    c.source.forEach((row, r) => {
      words[LIST + 2 * r] = row;
    });
  }
  const out = bench.buffer(new Float32Array(c.bucket * c.width).fill(FILL));
  await bench.run(
    rmsNorm({
      label: 'norm',
      variant,
      bucket: c.bucket,
      width: c.width,
      eps: c.eps,
      offset: c.offset,
      step: bench.buffer(words),
      countWord: 2,
      gather: c.gathered ? LIST : null,
      input: bench.buffer(c.input),
      weight: bench.buffer(c.weight),
      out,
      accumulate: c.accumulate,
    }),
  );
  return new Float32Array(await bench.read(out));
}

describe.each(['scalar', 'wide'] as const)('rms norm %s', (variant) => {
  it.each(
    pairwise({
      width: [16, 63, 256, 1028],
      rows: [
        { bucket: 1, count: 1 },
        { bucket: 8, count: 5 },
        { bucket: 64, count: 33 },
      ],
      eps: [1e-6, 0.1],
      offset: [0, 1],
      gathered: [false, true],
      accumulate: [false, true],
    }),
  )(
    'width $width, rows $rows, eps $eps, offset $offset, gathered $gathered, added $accumulate',
    async ({ width, rows, eps, offset, gathered, accumulate }) => {
      const rand = random(width);
      const input = floats(rand, 64 * width, 3);
      const weight = floats(rand, width);
      const source = Array.from({ length: rows.count }, (_x, r) => (gathered ? (r * 17 + 3) % 64 : r));
      const bucket = rows.bucket;
      const got = await norm(variant, { width, eps, offset, input, weight, source, bucket, gathered, accumulate });
      for (let r = 0; r < rows.bucket; r++) {
        const at = (source[r] ?? 0) * width;
        const want = rmsNormRow([...input.subarray(at, at + width)], [...weight], eps, offset);
        for (let i = 0; i < width; i++) {
          const before = accumulate || r >= rows.count ? FILL : 0;
          const expected = before + (r < rows.count ? want[i]! : 0);
          expect(Math.abs(got[r * width + i]! - expected)).toBeLessThan(2e-6 * (1 + before + Math.abs(expected)));
        }
      }
    },
  );

  it('gives a row the same bits in every bucket and place', async () => {
    const width = 260;
    const rand = random(9);
    const shared = { width, eps: 1e-5, offset: 0, input: floats(rand, 64 * width, 3), weight: floats(rand, width) };
    const source = Array.from({ length: 40 }, (_x, r) => (r * 23 + 7) % 64);
    const together = await norm(variant, { ...shared, source, bucket: 64, gathered: true, accumulate: false });
    for (const place of [0, 13, 39]) {
      const alone = await norm(variant, {
        ...shared,
        source: [source[place]!],
        bucket: 1,
        gathered: true,
        accumulate: false,
      });
      expect(alone).toEqual(together.slice(place * width, (place + 1) * width));
    }
  });
});
