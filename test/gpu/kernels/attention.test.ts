import { beforeAll, describe, expect, it } from 'vitest';
import type { KernelCall } from '../../../src/engine/gpu/kernel.ts';
import { type AttentionArgs, attention, partialsBytes } from '../../../src/engine/kernels/attention.ts';
import { attentionBlock } from '../../../src/engine/kernels/attention-block.ts';
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

/** What a batch of rows is computed from. */
interface Batch {
  readonly w: World;
  readonly rows: readonly Row[];
  readonly q: Float32Array;
  readonly options: Options;
}

function batch(shape: Shape, rows: readonly Row[], options: Options, queries = 2): Batch {
  const rand = random(shape.headDim + rows.length);
  const w = world(shape, Math.max(...rows.map((r) => r.slot)) + 1, rand);
  return { w, rows, options, q: floats(rand, rows.length * shape.numHeads * shape.headDim, queries) };
}

/** With `chunks` the calls are those of a step of at least 128 rows, dispatched for as many as there are. `change`: of the calls, before they run. */
async function run(
  variant: KernelVariant,
  { w, rows, q, options }: Batch,
  { chunks = false, change = (calls: readonly KernelCall[]) => calls } = {},
) {
  const out = bench.buffer(new Float32Array(q.length).fill(FILL));
  const maxLen = w.shape.blockSize * w.shape.maxBlocksPerSeq;
  const calls = attention({
    ...w.shape,
    ...options,
    label: 'attention',
    variant,
    chunks,
    bucket: chunks ? Math.max(128, rows.length) : rows.length,
    rows: rowsBuffer(bench, rows),
    blockTable: bench.buffer(w.table),
    q: bench.buffer(q),
    kPool: bench.buffer(w.k.words),
    vPool: bench.buffer(w.v.words),
    partials: bench.buffer(partialsBytes(variant, { ...w.shape, maxLen })),
    out,
  });
  const fitted = calls.map(({ workgroups: [x, y, z], ...call }) => ({
    ...call,
    workgroups: [x, Math.min(y, rows.length), z] as const,
  }));
  await bench.run(...change(fitted));
  return new Float32Array(await bench.read(out));
}

/** Compares every `each`th row with float64. */
function expectNear(got: Float32Array, { w, rows, q, options }: Batch, queries = 2, each = 1): void {
  const { numHeads, headDim } = w.shape;
  rows.forEach((row, r) => {
    if (r % each !== 0 && row.active) return;
    for (let h = 0; h < numHeads; h++) {
      const at = (r * numHeads + h) * headDim;
      const want = row.active
        ? expectedAttention(w, row, [...q.subarray(at, at + headDim)], h, options)
        : Array.from({ length: headDim }, () => FILL);
      want.forEach((x, d) => {
        if (!(Math.abs(got[at + d]! - x) < 2e-5 * queries))
          expect.fail(`row ${r} head ${h} dim ${d}: ${got[at + d]}, expected ${x}`);
      });
    }
  });
}

async function check(variant: KernelVariant, shape: Shape, rows: readonly Row[], options: Options, queries = 2) {
  const b = batch(shape, rows, options, queries);
  expectNear(await run(variant, b), b, queries);
}

/** Positions at and beside the borders of blocks and of tiles of 64 keys. */
const border = (blockSize: number, i: number): number =>
  [0, blockSize - 1, blockSize, 63, 64, 2 * blockSize - 1, 2 * blockSize + 1, 70, 1, 95][i % 10]!;

/** How the rows of a step may look; `i` numbers the row. The last are so many that their tiles are not shared. */
const BATCHES = {
  'one sequence': (b: number): Row[] => [{ slot: 0, position: border(b, 6), active: true }],
  'seven decodes': (b: number): Row[] =>
    Array.from({ length: 8 }, (_x, i) => ({ slot: i, position: border(b, i), active: i !== 3 })),
  'a chunk of prefill': (b: number): Row[] =>
    Array.from({ length: 16 }, (_x, i) => ({ slot: 0, position: b - 3 + i, active: i < 13 })),
  '66 sequences': (b: number): Row[] =>
    Array.from({ length: 66 }, (_x, i) => ({ slot: (i * 5) % 66, position: border(b, i), active: true })),
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
      kvDtype: ['f32', 'bf16', 'f16', 'int8'],
      blockSize: [8, 16, 32],
      slidingWindow: [0, 1, 17],
      softcap: [0, 5],
      batch: ['one sequence', 'seven decodes', 'a chunk of prefill', '66 sequences'],
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

  it.each(['f16', 'int8'] as const)(
    'gives a row the same bits alone, in a crowd, in any chunk and on any blocks, %s',
    async (kvDtype) => {
      const shape = { ...small, kvDtype };
      const options: Options = { scale: 0.18, slidingWindow: 0, softcap: 0 };
      const width = small.numHeads * small.headDim;
      const w = world(shape, 3, random(3));
      const chunk: Row[] = Array.from({ length: 21 }, (_x, i) => ({ slot: 1, position: 180 + i, active: true }));
      const q = floats(random(4), chunk.length * width, 2);
      const bits = (out: Float32Array, row: number): string =>
        new Uint32Array(out.slice(row * width, (row + 1) * width).buffer).join();
      const whole = await run(variant, { w, rows: chunk, q, options });
      expect(new Set(chunk.map((_row, r) => bits(whole, r))).size).toBe(chunk.length);
      for (const r of [0, 11, 20]) {
        const alone = await run(variant, { w, rows: [chunk[r]!], q: q.slice(r * width, (r + 1) * width), options });
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
      const crowded = await run(variant, { w, rows: crowd, q: crowdQ, options });
      places.forEach((place, r) => {
        expect(bits(crowded, place)).toBe(bits(whole, r));
      });
      // The same keys and values on other blocks.
      const shift = (block: number) => (block + 7) % 63;
      const size = w.k.words.length / 63;
      const move = (words: Uint32Array) => {
        const moved = new Uint32Array(words.length);
        for (let b = 0; b < 63; b++) moved.set(words.subarray(b * size, (b + 1) * size), shift(b) * size);
        return moved;
      };
      const elsewhere: World = {
        shape,
        table: w.table.map(shift),
        k: { ...w.k, words: move(w.k.words) },
        v: { ...w.v, words: move(w.v.words) },
      };
      const moved = await run(variant, { w: elsewhere, rows: chunk, q, options });
      chunk.forEach((_row, r) => {
        expect(bits(moved, r)).toBe(bits(whole, r));
      });
    },
  );

  it('refuses heads that it can not compute', async () => {
    const rows: Row[] = [{ slot: 0, position: 0, active: true }];
    const bad = (shape: Shape) =>
      run(variant, {
        w: world(shape, 1, random(1)),
        rows,
        q: new Float32Array(99),
        options: { scale: 1, slidingWindow: 0, softcap: 0 },
      });
    await expect(bad({ ...small, headDim: 20 })).rejects.toThrow('multiple of 8');
    await expect(bad({ ...small, headDim: 520 })).rejects.toThrow('512 at most');
    await expect(bad({ ...small, numHeads: 5 })).rejects.toThrow("5 query heads can't share 2 KV heads");
  });
});

/** The same calls with tiles shared by `z` workgroups a row. */
const shared = (calls: readonly KernelCall[], z: number): KernelCall[] =>
  calls.map(({ workgroups: [x, y, own], ...call }) => ({
    ...call,
    workgroups: [x, y, call.shader === 'attention_wide.wgsl' ? z : own] as const,
  }));

describe('attention over shared tiles', () => {
  const shape: Shape = {
    numHeads: 3,
    numKvHeads: 1,
    headDim: 40,
    kvDtype: 'f16',
    blockSize: 64,
    maxBlocksPerSeq: 75,
  };
  /** Tiles seen: one, 64 and 65 (as many as are joined at a time, and one more), 75. */
  const rows: Row[] = [5, 4095, 4096, 4799].map((position, slot) => ({ slot, position, active: true }));

  it.each([0, 300])(
    'is the same to the bit with a workgroup a row, a tile, or something between; window %i',
    async (slidingWindow) => {
      const b = batch(shape, rows, { scale: 0.16, slidingWindow, softcap: 0 });
      // Rows that may be chunks, of a bucket so large that they are not split.
      const whole = await run('wide', b, { chunks: true, change: (calls) => [wholeRows(calls)] });
      expectNear(whole, b);
      for (const z of [1, 7, 75]) {
        const used: string[] = [];
        const got = await run('wide', b, {
          change: (calls) => {
            used.push(...calls.map((call) => call.shader));
            return shared(calls, z);
          },
        });
        expect(used).toEqual(['attention_wide.wgsl', 'attention_merge.wgsl']);
        expect(new Uint32Array(got.buffer)).toEqual(new Uint32Array(whole.buffer));
      }
    },
  );
});

/** The row kernel alone, of all rows. */
function wholeRows(calls: readonly KernelCall[]): KernelCall {
  const call = calls.find(({ shader }) => shader === 'attention_wide.wgsl')!;
  expect(call.constants).toMatchObject({ SPLIT: 0 });
  return { ...call, constants: { ...call.constants, BLOCK_ROWS: 0 } };
}

const BLOCK = 'attention_block.wgsl';

/** `count` rows of a slot from position `start` on. */
const chunkOf = (slot: number, start: number, count: number): Row[] =>
  Array.from({ length: count }, (_x, i) => ({ slot, position: start + i, active: true }));

/** Decodes, one of them over, then chunks that begin and end anywhere, then padding. */
const RAGGED: readonly Row[] = [
  ...[0, 63, 64, 95].map((position, slot) => ({ slot, position, active: slot !== 2 })),
  ...chunkOf(5, 50, 21),
  ...chunkOf(6, 0, 18),
  ...chunkOf(7, 63, 3),
  ...chunkOf(8, 17, 1),
  ...Array.from({ length: 3 }, () => ({ slot: 0, position: 0, active: false })),
];
const BLOCK_BATCHES = { ragged: RAGGED, 'one chunk': chunkOf(0, 100, 44) } as const;

describe('attention in blocks', () => {
  /** The same calls with the blocks that a step of so many rows gets. */
  const asFor =
    (bucket: number, { numHeads, numKvHeads, headDim }: Shape) =>
    (calls: readonly KernelCall[]): KernelCall[] => {
      const block = attentionBlock({ bucket, numHeads, numKvHeads, headDim })!;
      return calls.map((call) => ({
        ...call,
        constants: {
          ...call.constants,
          ...(call.shader === BLOCK ? block : { BLOCK_ROWS: block.BLOCK_ROWS! }),
        },
      }));
    };
  const words = (floats: Float32Array) => new Uint32Array(floats.buffer);

  it.each(
    pairwise({
      // Each of these is a shader to compile.
      heads: [
        [2, 2, 16],
        [3, 1, 40],
        [7, 1, 128],
        [4, 2, 256],
      ],
      kvDtype: ['f32', 'bf16', 'f16', 'int8'],
      blockSize: [8, 64],
      slidingWindow: [0, 17],
      softcap: [0, 5],
      rows: ['ragged', 'one chunk'],
      asFor: [128, 65_536],
    }),
  )(
    'heads $heads (query, KV, dimensions), $kvDtype, blocks of $blockSize, window $slidingWindow, softcap $softcap, $rows as in a step of $asFor',
    async (c) => {
      const [numHeads, numKvHeads, headDim] = c.heads;
      const { kvDtype, blockSize, slidingWindow, softcap } = c;
      const shape: Shape = { numHeads, numKvHeads, headDim, kvDtype, blockSize, maxBlocksPerSeq: 192 / blockSize };
      const b = batch(shape, BLOCK_BATCHES[c.rows], { scale: headDim ** -0.5, slidingWindow, softcap });
      const rowByRow = await run('wide', b);
      const used: string[] = [];
      const got = await run('wide', b, {
        chunks: true,
        change: (calls) => {
          used.push(...calls.map(({ shader }) => shader));
          return asFor(c.asFor, shape)(calls);
        },
      });
      expect(used).toEqual([BLOCK, 'attention_wide.wgsl']);
      expectNear(got, b, 2, 5);
      expect(words(got)).toEqual(words(rowByRow));
    },
  );

  it('takes the rows of chunks and leaves the others', async () => {
    const shape: Shape = {
      numHeads: 4,
      numKvHeads: 2,
      headDim: 32,
      kvDtype: 'f16',
      blockSize: 16,
      maxBlocksPerSeq: 12,
    };
    const b = batch(shape, RAGGED, { scale: 0.2, slidingWindow: 0, softcap: 0 });
    const whole = await run('wide', b, { chunks: true });
    const width = shape.numHeads * shape.headDim;
    const inBlocks = async (only: number) => {
      const out = await run('wide', b, { chunks: true, change: (calls) => [calls[only]!] });
      return RAGGED.map((_row, r) => {
        const row = out.subarray(r * width, (r + 1) * width);
        if (row.every((x) => x === FILL)) return false;
        expect(row).toEqual(whole.subarray(r * width, (r + 1) * width));
        return true;
      });
    };
    // Blocks end after position 63: with the slot's others before it, or alone.
    const chunked = RAGGED.map(({ slot, position }) => slot >= 5 && slot <= 7 && position !== 63);
    chunked[4 + 13] = true;
    expect(await inBlocks(0)).toEqual(chunked);
    expect(await inBlocks(1)).toEqual(RAGGED.map(({ active }, r) => active && !chunked[r]));
  });

  it('does not look at rows of an earlier, larger step', async () => {
    const shape: Shape = {
      numHeads: 2,
      numKvHeads: 1,
      headDim: 32,
      kvDtype: 'f32',
      blockSize: 16,
      maxBlocksPerSeq: 32,
    };
    const b = batch(shape, chunkOf(0, 100, 64), { scale: 0.2, slidingWindow: 0, softcap: 0 });
    const width = shape.numHeads * shape.headDim;
    const fewer = (calls: readonly KernelCall[]): KernelCall[] =>
      calls.map((call) => ({ ...call, workgroups: [call.workgroups[0], 34, 1] }));
    const whole = await run('wide', b, { chunks: true });
    const part = await run('wide', b, { chunks: true, change: fewer });
    expect(part.subarray(0, 34 * width)).toEqual(whole.subarray(0, 34 * width));
    expect(part.subarray(34 * width).every((x) => x === FILL)).toBe(true);
  });

  it('leaves few rows, decodes and groups of very many heads to the row kernel', async () => {
    const sizes = { bucket: 2048, numHeads: 16, numKvHeads: 8, headDim: 128 };
    expect(attentionBlock(sizes)).toMatchObject({ BLOCK_ROWS: 32 });
    expect(attentionBlock({ ...sizes, bucket: 64 })).toBeNull();
    expect(attentionBlock({ ...sizes, numHeads: 40, numKvHeads: 1 })).toBeNull();
    const shape: Shape = {
      numHeads: 4,
      numKvHeads: 2,
      headDim: 32,
      kvDtype: 'f16',
      blockSize: 16,
      maxBlocksPerSeq: 12,
    };
    const b = batch(shape, RAGGED, { scale: 0.2, slidingWindow: 0, softcap: 0 });
    await run('wide', b, {
      change: (calls) => {
        expect(calls.map(({ shader }) => shader)).toEqual(['attention_wide.wgsl', 'attention_merge.wgsl']);
        return calls;
      },
    });
  });
});
