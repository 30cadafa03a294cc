import { beforeAll, describe, expect, it } from 'vitest';
import { type RopeKvArgs, ropeKv } from '../../../src/engine/kernels/rope-kv.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
import {
  floats,
  fromBf16,
  int8Scale,
  random,
  rmsNormRow,
  rotate,
  type Stored,
  toBf16,
  unstored,
  unstoredKv,
} from './reference.ts';
import { element, int8Layout, type Row, rowsBuffer, type Shape, type World, world } from './world.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 77;
/** Large, so that a kernel without it fails. */
const EPS = 0.01;

type Options = Pick<RopeKvArgs, 'rotaryDim' | 'attentionFactor' | 'qkNorm' | 'offset'> & { readonly theta: number };

interface Inputs {
  readonly qkv: Float32Array;
  readonly norms: Float32Array;
  readonly invFreq: Float32Array;
}

function inputs(shape: Shape, rows: number, o: Options): Inputs {
  const rand = random(shape.headDim);
  return {
    qkv: floats(rand, rows * (shape.numHeads + 2 * shape.numKvHeads) * shape.headDim, 3),
    norms: floats(rand, 2 * shape.headDim),
    invFreq: Float32Array.from({ length: o.rotaryDim / 2 }, (_x, i) => o.theta ** ((-2 * i) / o.rotaryDim)),
  };
}

async function run(variant: KernelVariant, w: World, rows: readonly Row[], i: Inputs, o: Options) {
  const q = bench.buffer(new Float32Array(rows.length * w.shape.numHeads * w.shape.headDim).fill(FILL));
  const kPool = bench.buffer(w.k.words);
  const vPool = bench.buffer(w.v.words);
  await bench.run(
    ropeKv({
      ...w.shape,
      ...o,
      label: 'rope',
      variant,
      bucket: rows.length,
      eps: EPS,
      rows: rowsBuffer(bench, rows),
      blockTable: bench.buffer(w.table),
      qkv: bench.buffer(i.qkv),
      norms: bench.buffer(i.norms),
      invFreq: bench.buffer(i.invFreq),
      q,
      kPool,
      vPool,
    }),
  );
  return { q: new Float32Array(await bench.read(q)), k: await bench.read(kPool), v: await bench.read(vPool) };
}

/** What a pool should hold after a step, in the order of its elements, and how far off each may be. */
class Expected {
  readonly values: Float64Array;
  readonly scales: Float64Array;
  readonly room: Float64Array;

  constructor(
    private readonly shape: Shape,
    before: Stored,
  ) {
    this.values = before.values.slice();
    this.scales = unstoredKv(shape.kvDtype, before.words.buffer as ArrayBuffer, int8Layout(shape)).scales;
    this.room = new Float64Array(this.values.length);
  }

  /** `error`: of the sums that gave the head, relative to 1 + its magnitude. */
  write(at: number, head: readonly number[], error: number): void {
    const { kvDtype, headDim } = this.shape;
    const scale = int8Scale(head);
    if (kvDtype === 'int8') this.scales[at / headDim] = scale;
    head.forEach((x, d) => {
      this.values[at + d] = kvDtype === 'bf16' && error === 0 ? fromBf16(toBf16(x)) : x;
      const unit = { f32: error, bf16: error && 2 ** -8, f16: 2 ** -11, int8: error }[kvDtype] * (1 + Math.abs(x));
      this.room[at + d] = unit + (kvDtype === 'int8' ? scale * 0.501 : 0);
    });
  }

  check(words: ArrayBuffer, what: string): void {
    const { kvDtype, headDim } = this.shape;
    const got = unstoredKv(kvDtype, words, int8Layout(this.shape));
    this.values.forEach((x, i) => {
      if (!(Math.abs(got.values[i]! - x) <= this.room[i]!))
        expect.fail(`${what} element ${i}: ${got.values[i]}, expected ${x}`);
    });
    // f32 may fall on the other side of a step of f16; scales beside it are what they were.
    this.scales.forEach((x, h) => {
      if (!(Math.abs(got.scales[h]! - x) <= (this.room[h * headDim]! > 0 ? x * 2 ** -10 : 0)))
        expect.fail(`${what} scale ${h}: ${got.scales[h]}, expected ${x}`);
    });
  }
}

async function check(variant: KernelVariant, shape: Shape, rows: readonly Row[], o: Options): Promise<void> {
  const { numHeads, numKvHeads, headDim } = shape;
  const w = world(shape, Math.max(...rows.map((r) => r.slot)) + 1, random(1));
  const { qkv, norms, invFreq } = inputs(shape, rows.length, o);
  const got = await run(variant, w, rows, { qkv, norms, invFreq }, o);
  const wantK = new Expected(shape, w.k);
  const wantV = new Expected(shape, w.v);
  const width = (numHeads + 2 * numKvHeads) * headDim;
  rows.forEach((row, r) => {
    const head = (i: number) => [...qkv.subarray(r * width + i * headDim, r * width + (i + 1) * headDim)];
    const turned = (i: number, norm: Float32Array) =>
      rotate(
        o.qkNorm ? rmsNormRow(head(i), [...norm], EPS, o.offset) : head(i),
        row.position,
        invFreq,
        o.rotaryDim,
      ).map((v, d) => (d < o.rotaryDim ? v * o.attentionFactor : v));
    for (let h = 0; h < numHeads; h++) {
      turned(h, norms.subarray(0, headDim)).forEach((x, d) => {
        const [value, want] = [got.q[(r * numHeads + h) * headDim + d]!, row.active ? x : FILL];
        if (!(Math.abs(value - want) <= 3e-6 * (1 + Math.abs(want))))
          expect.fail(`q row ${r} head ${h} dim ${d}: ${value}, expected ${want}`);
      });
    }
    if (!row.active) return;
    for (let h = 0; h < numKvHeads; h++) {
      const at = element(w, row.slot, row.position, h);
      wantK.write(at, turned(numHeads + h, norms.subarray(headDim)), 3e-6);
      // V is only rounded: exactly, where the rounding is ours.
      wantV.write(at, head(numHeads + numKvHeads + h), 0);
    }
  });
  // The whole pools: the rows' places hold what they should, all others what they held.
  wantK.check(got.k, 'k');
  wantV.check(got.v, 'v');
}

describe.each(['scalar', 'wide'] as const)('rope and KV write %s', (variant) => {
  it.each(
    pairwise({
      headDim: [16, 32, 64, 80, 96, 128, 256],
      heads: [
        [1, 1],
        [4, 2],
        [14, 2],
        [6, 6],
      ],
      kvDtype: ['f32', 'bf16', 'f16', 'int8'],
      blockSize: [8, 16, 32],
      turning: [1, 0.5, 0.25],
      norm: ['none', 'plain', 'offset 1'],
      attentionFactor: [1, 1.25],
      sequences: [1, 8, 33],
    }),
  )(
    'heads $heads x $headDim, $turning of it turns by $attentionFactor, norm $norm, $kvDtype, blocks of $blockSize, $sequences sequences',
    async (c) => {
      const [numHeads, numKvHeads] = c.heads;
      const { headDim, kvDtype, blockSize } = c;
      const shape: Shape = { numHeads, numKvHeads, headDim, kvDtype, blockSize, maxBlocksPerSeq: 4 };
      const rows = Array.from({ length: c.sequences }, (_x, i) => ({
        slot: (i * 5) % c.sequences,
        position: [blockSize - 1, 0, blockSize, 4 * blockSize - 1, 2 * blockSize + 3][i % 5]!,
        active: i % 7 !== 6,
      }));
      const rotaryDim = headDim * c.turning;
      const offset = c.norm === 'offset 1' ? 1 : 0;
      await check(variant, shape, rows, {
        rotaryDim,
        attentionFactor: c.attentionFactor,
        qkNorm: c.norm !== 'none',
        offset,
        theta: 1e4,
      });
    },
  );

  it.each([1e4, 1e6, 5e8])('keeps angles exact at positions of tens of thousands, theta %d', async (theta) => {
    const shape: Shape = {
      numHeads: 1,
      numKvHeads: 1,
      headDim: 64,
      kvDtype: 'f32',
      blockSize: 32,
      maxBlocksPerSeq: 1250,
    };
    const rows = [39_999, 32_768, 20_001, 5_003].map((position) => ({ slot: 0, position, active: true }));
    await check(variant, shape, rows, { rotaryDim: 64, attentionFactor: 1, qkNorm: false, offset: 0, theta });
  });

  const shape: Shape = { numHeads: 3, numKvHeads: 1, headDim: 64, kvDtype: 'bf16', blockSize: 8, maxBlocksPerSeq: 4 };
  const options: Options = { rotaryDim: 64, attentionFactor: 1, qkNorm: true, offset: 0, theta: 1e4 };

  it('rounds to bf16 with ties to even, and clamps to f16', async () => {
    const rows = [{ slot: 0, position: 0, active: true }];
    const i = inputs(shape, 1, options);
    // Halfway between two bf16 (one even, one odd below), above and below halfway, and past the largest f16.
    const values = [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -(1 + 3 * 2 ** -8 - 2 ** -20), 70_000, -1e30];
    i.qkv.set(values, 4 * 64);
    for (const kvDtype of ['bf16', 'f16'] as const) {
      const w = world({ ...shape, kvDtype }, 1, random(2));
      const pool = unstored(kvDtype, (await run(variant, w, rows, i, options)).v);
      const got = pool.subarray(element(w, 0, 0, 0), element(w, 0, 0, 0) + values.length);
      if (kvDtype === 'bf16') {
        expect([...got.subarray(0, 4)]).toEqual([1, 1 + 2 ** -6, 1 + 2 ** -7, -(1 + 2 ** -7)]);
        expect(got[4]).toBe(70_144);
      } else expect([...got.subarray(4)]).toEqual([65_504, -65_504]);
    }
  });

  it.each([1, 2, 3])(
    'writes neighbouring tokens of one step and nothing beside them as int8, %i KV heads',
    async (heads) => {
      const kv: Shape = {
        numHeads: heads,
        numKvHeads: heads,
        headDim: 40,
        kvDtype: 'int8',
        blockSize: 8,
        maxBlocksPerSeq: 4,
      };
      const rows = [3, 4, 5, 6, 7, 8, 9, 11, 30].map((position) => ({ slot: 1, position, active: true }));
      await check(variant, kv, rows, { ...options, rotaryDim: 40 });
    },
  );

  it('holds zeros, the smallest and the largest numbers as int8, and keeps what is not finite from its neighbours', async () => {
    const kv: Shape = { ...shape, kvDtype: 'int8' };
    // The largest magnitude of each token's V; the numbers are shares of it.
    const tops = [0, 1e-7, 3e-6, 0.003, 0.0077, 1, 1e4, 8e6, 1e30, Number.POSITIVE_INFINITY, Number.NaN, 2];
    const shares = [1, -1, 0.5, 0.25, -0.1, 0.003, 0];
    const rows = tops.map((_top, position) => ({ slot: 0, position, active: true }));
    const i = inputs(kv, rows.length, options);
    const width = i.qkv.length / rows.length;
    tops.forEach((top, r) => {
      const v = Array.from({ length: 64 }, (_x, d) => (shares[d] ? top * shares[d]! : 0));
      i.qkv.set(v, r * width + 4 * 64);
    });
    const w = world(kv, 1, random(2));
    const { values, scales } = unstoredKv('int8', (await run(variant, w, rows, i, options)).v, int8Layout(kv));
    for (const [position, top] of tops.entries()) {
      const at = element(w, 0, position, 0);
      const got = [...values.subarray(at, at + shares.length)];
      expect(got.every((x) => Math.abs(x) <= 127 * 65504)).toBe(true);
      if (!Number.isFinite(top)) continue;
      const stored = shares.map((share) => Math.fround(top * share));
      const scale = int8Scale(stored);
      expect(Math.abs(scales[at / 64]! - scale)).toBeLessThanOrEqual(Math.max(scale * 2 ** -10, scale && 2 ** -24));
      got.forEach((x, d) => {
        const want = Math.max(-127 * 65504, Math.min(127 * 65504, stored[d]!));
        expect(Math.abs(x - want)).toBeLessThanOrEqual(scales[at / 64]! * 0.501);
      });
    }
  });

  it.each(['bf16', 'int8'] as const)('gives a row the same bits in every place, %s', async (kvDtype) => {
    const kv = { ...shape, kvDtype };
    const rows: Row[] = Array.from({ length: 16 }, (_x, i) => ({ slot: i % 3, position: (i * 7) % 31, active: true }));
    const w = world(kv, 3, random(2));
    const i = inputs(kv, rows.length, options);
    const together = await run(variant, w, rows, i, options);
    for (const r of [0, 5, 15]) {
      const width = i.qkv.length / rows.length;
      const own = { ...i, qkv: i.qkv.slice(r * width, (r + 1) * width) };
      const alone = await run(variant, w, [rows[r]!], own, options);
      const size = kv.numHeads * kv.headDim;
      expect(alone.q).toEqual(together.q.slice(r * size, (r + 1) * size));
      const at = element(w, rows[r]!.slot, rows[r]!.position, 0);
      const key = (words: ArrayBuffer) => {
        const { values, scales } = unstoredKv(kvDtype, words, int8Layout(kv));
        return [values.slice(at, at + kv.headDim), scales[at / kv.headDim]];
      };
      expect(key(alone.k)).toEqual(key(together.k));
      expect(key(alone.v)).toEqual(key(together.v));
    }
  });

  it('refuses rotary dimensions that do not fit', async () => {
    const w = world(shape, 1, random(1));
    const bad = { ...options, rotaryDim: 66 };
    const rows = [{ slot: 0, position: 0, active: true }];
    await expect(run(variant, w, rows, inputs(shape, 1, bad), bad)).rejects.toThrow("66 rotary dimensions don't fit");
  });
});
