import { beforeAll, describe, expect, it } from 'vitest';
import { type RopeKvArgs, ropeKv } from '../../../src/engine/kernels/rope-kv.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
import { floats, random, rmsNormRow, rotate, stored, unstored } from './reference.ts';
import { element, type Row, rowsBuffer, type Shape, type World, world } from './world.ts';

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

async function check(variant: KernelVariant, shape: Shape, rows: readonly Row[], o: Options): Promise<void> {
  const { numHeads, numKvHeads, headDim, kvDtype } = shape;
  const w = world(shape, Math.max(...rows.map((r) => r.slot)) + 1, random(1));
  const { qkv, norms, invFreq } = inputs(shape, rows.length, o);
  const got = await run(variant, w, rows, { qkv, norms, invFreq }, o);
  const wantK = w.k.values.slice();
  const wantV = w.v.values.slice();
  const near = (value: number, want: number, relative: number, what: string) => {
    if (!(Math.abs(value - want) <= relative * (1 + Math.abs(want))))
      expect.fail(`${what}: ${value}, expected ${want}`);
  };
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
        const at = (r * numHeads + h) * headDim + d;
        near(got.q[at]!, row.active ? x : FILL, 3e-6, `q row ${r} head ${h} dim ${d}`);
      });
    }
    if (!row.active) return;
    for (let h = 0; h < numKvHeads; h++) {
      const at = element(w, row.slot, row.position, h);
      wantK.set(turned(numHeads + h, norms.subarray(headDim)), at);
      wantV.set(stored(kvDtype, Float32Array.from(head(numHeads + numKvHeads + h))).values, at);
    }
  });
  // The whole pools: the rows' places hold what they should, all others what they held.
  const unit = { f32: 3e-6, bf16: 2 ** -8, f16: 2 ** -11 }[kvDtype];
  const [gotK, gotV] = [unstored(kvDtype, got.k), unstored(kvDtype, got.v)];
  wantK.forEach((x, i) => {
    near(gotK[i]!, x, unit, `k element ${i}`);
  });
  // V is only rounded: exactly, where the rounding is ours.
  wantV.forEach((x, i) => {
    near(gotV[i]!, x, kvDtype === 'f16' ? unit : 0, `v element ${i}`);
  });
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
      kvDtype: ['f32', 'bf16', 'f16'],
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

  it('gives a row the same bits in every place', async () => {
    const rows: Row[] = Array.from({ length: 16 }, (_x, i) => ({ slot: i % 3, position: (i * 7) % 31, active: true }));
    const w = world(shape, 3, random(2));
    const i = inputs(shape, rows.length, options);
    const together = await run(variant, w, rows, i, options);
    for (const r of [0, 5, 15]) {
      const width = i.qkv.length / rows.length;
      const own = { ...i, qkv: i.qkv.slice(r * width, (r + 1) * width) };
      const alone = await run(variant, w, [rows[r]!], own, options);
      const size = shape.numHeads * shape.headDim;
      expect(alone.q).toEqual(together.q.slice(r * size, (r + 1) * size));
      const at = element(w, rows[r]!.slot, rows[r]!.position, 0) / 2;
      const key = (pool: ArrayBuffer) => new Uint32Array(pool).slice(at, at + shape.headDim / 2);
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
