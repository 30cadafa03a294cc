import { beforeAll, describe, expect, it } from 'vitest';
import { type AttentionArgs, attention, partialsBytes } from '../../../src/engine/kernels/attention.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
import { floats, random } from './reference.ts';
import { expectedAttention, type Row, rowsBuffer, type Shape, type World, world } from './world.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 77;

type Options = Pick<AttentionArgs, 'scale' | 'slidingWindow' | 'softcap'>;

async function run(variant: KernelVariant, w: World, rows: readonly Row[], q: Float32Array, options: Options) {
  const out = bench.buffer(new Float32Array(q.length).fill(FILL));
  await bench.run(
    ...attention({
      ...w.shape,
      ...options,
      label: 'attention',
      variant,
      bucket: rows.length,
      rows: rowsBuffer(bench, rows),
      blockTable: bench.buffer(w.table),
      q: bench.buffer(q),
      kPool: bench.buffer(w.k.words),
      vPool: bench.buffer(w.v.words),
      partials: bench.buffer(
        partialsBytes(variant, { ...w.shape, maxLen: w.shape.blockSize * w.shape.maxBlocksPerSeq }),
      ),
      out,
    }),
  );
  return new Float32Array(await bench.read(out));
}

async function check(variant: KernelVariant, shape: Shape, rows: readonly Row[], options: Options, queries = 2) {
  const rand = random(shape.headDim + rows.length);
  const w = world(shape, Math.max(...rows.map((r) => r.slot)) + 1, rand);
  const q = floats(rand, rows.length * shape.numHeads * shape.headDim, queries);
  const got = await run(variant, w, rows, q, options);
  rows.forEach((row, r) => {
    for (let h = 0; h < shape.numHeads; h++) {
      const at = (r * shape.numHeads + h) * shape.headDim;
      const want = row.active
        ? expectedAttention(w, row, [...q.subarray(at, at + shape.headDim)], h, options)
        : Array.from({ length: shape.headDim }, () => FILL);
      want.forEach((x, d) => {
        if (!(Math.abs(got[at + d]! - x) < 2e-5 * queries))
          expect.fail(`row ${r} head ${h} dim ${d}: ${got[at + d]}, expected ${x}`);
      });
    }
  });
}

/** Positions at and beside the borders of blocks and of tiles of 64 keys. */
const border = (blockSize: number, i: number): number =>
  [0, blockSize - 1, blockSize, 63, 64, 2 * blockSize - 1, 2 * blockSize + 1, 70, 1, 95][i % 10]!;

/** How the rows of a step may look; `i` numbers the row. */
const BATCHES = {
  'one sequence': (b: number): Row[] => [{ slot: 0, position: border(b, 6), active: true }],
  'seven decodes': (b: number): Row[] =>
    Array.from({ length: 8 }, (_x, i) => ({ slot: i, position: border(b, i), active: i !== 3 })),
  'a chunk of prefill': (b: number): Row[] =>
    Array.from({ length: 16 }, (_x, i) => ({ slot: 0, position: b - 3 + i, active: i < 13 })),
  '33 sequences': (b: number): Row[] =>
    Array.from({ length: 33 }, (_x, i) => ({ slot: (i * 5) % 33, position: border(b, i), active: true })),
} as const;

describe.each(['scalar', 'wide'] as const)('attention %s', (variant) => {
  it.each(
    pairwise({
      headDim: [16, 32, 64, 80, 96, 128, 256],
      heads: [
        [1, 1],
        [4, 2],
        [6, 1],
        [14, 2],
      ],
      kvDtype: ['f32', 'bf16', 'f16'],
      blockSize: [8, 16, 32],
      slidingWindow: [0, 1, 17],
      softcap: [0, 5],
      batch: ['one sequence', 'seven decodes', 'a chunk of prefill', '33 sequences'],
    }),
  )(
    'heads $heads x $headDim, $kvDtype, blocks of $blockSize, window $slidingWindow, softcap $softcap, $batch',
    async (c) => {
      const [numHeads, numKvHeads] = c.heads;
      const { headDim, kvDtype, blockSize, slidingWindow, softcap } = c;
      const shape: Shape = { numHeads, numKvHeads, headDim, kvDtype, blockSize, maxBlocksPerSeq: 96 / blockSize };
      await check(variant, shape, BATCHES[c.batch](blockSize), { scale: headDim ** -0.5, slidingWindow, softcap });
    },
  );

  const small: Shape = {
    numHeads: 4,
    numKvHeads: 2,
    headDim: 32,
    kvDtype: 'f16',
    blockSize: 16,
    maxBlocksPerSeq: 20,
  };

  it('keeps its head when scores are large and one key takes all', async () => {
    const rows = [300, 64].map((position, slot) => ({ slot, position, active: true }));
    await check(variant, small, rows, { scale: 1, slidingWindow: 0, softcap: 0 }, 60);
  });

  it('gives a row the same bits alone, in a crowd, in any chunk and on any blocks', async () => {
    const options: Options = { scale: 0.18, slidingWindow: 0, softcap: 0 };
    const width = small.numHeads * small.headDim;
    const w = world(small, 3, random(3));
    const chunk: Row[] = Array.from({ length: 21 }, (_x, i) => ({ slot: 1, position: 180 + i, active: true }));
    const q = floats(random(4), chunk.length * width, 2);
    const bits = (out: Float32Array, row: number): string =>
      new Uint32Array(out.slice(row * width, (row + 1) * width).buffer).join();
    const whole = await run(variant, w, chunk, q, options);
    expect(new Set(chunk.map((_row, r) => bits(whole, r))).size).toBe(chunk.length);
    for (const r of [0, 11, 20]) {
      const alone = await run(variant, w, [chunk[r]!], q.slice(r * width, (r + 1) * width), options);
      expect(bits(alone, 0)).toBe(bits(whole, r));
    }
    // Between rows of other slots, and with padding.
    const crowd: Row[] = Array.from({ length: 32 }, (_x, i) => ({
      slot: [0, 2][i % 2]!,
      position: i * 9,
      active: i % 5 > 0,
    }));
    const places = [31, 2, 16];
    const crowdQ = floats(random(5), crowd.length * width, 2);
    places.forEach((place, r) => {
      crowd[place] = chunk[r]!;
      crowdQ.set(q.subarray(r * width, (r + 1) * width), place * width);
    });
    const crowded = await run(variant, w, crowd, crowdQ, options);
    places.forEach((place, r) => {
      expect(bits(crowded, place)).toBe(bits(whole, r));
    });
    // The same keys and values on other blocks.
    const shift = (block: number) => (block + 7) % 63;
    const size = (small.blockSize * small.numKvHeads * small.headDim) / 2;
    const move = (words: Uint32Array) => {
      const moved = new Uint32Array(words.length);
      for (let b = 0; b < 63; b++) moved.set(words.subarray(b * size, (b + 1) * size), shift(b) * size);
      return moved;
    };
    const elsewhere: World = {
      shape: small,
      table: w.table.map(shift),
      k: { ...w.k, words: move(w.k.words) },
      v: { ...w.v, words: move(w.v.words) },
    };
    const moved = await run(variant, elsewhere, chunk, q, options);
    chunk.forEach((_row, r) => {
      expect(bits(moved, r)).toBe(bits(whole, r));
    });
  });

  it('refuses heads that it can not compute', async () => {
    const rows: Row[] = [{ slot: 0, position: 0, active: true }];
    const bad = (shape: Shape) =>
      run(variant, world(shape, 1, random(1)), rows, new Float32Array(99), { scale: 1, slidingWindow: 0, softcap: 0 });
    await expect(bad({ ...small, headDim: 20 })).rejects.toThrow('multiple of 8');
    await expect(bad({ ...small, numHeads: 5 })).rejects.toThrow("5 query heads can't share 2 KV heads");
  });
});
