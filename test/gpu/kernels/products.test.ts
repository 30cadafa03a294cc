import { beforeAll, describe, expect, it } from 'vitest';
import type { KernelCall } from '../../../src/engine/gpu/kernel.ts';
import type { FloatDtype } from '../../../src/engine/kernels/dtype.ts';
import { gateUp } from '../../../src/engine/kernels/gate-up.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import { rmsNorm } from '../../../src/engine/kernels/rms-norm.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
import { activations, dot, floats, random, stored } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const COUNT_WORD = 3;
const FILL = 77;

interface Operands {
  readonly n: number;
  readonly k: number;
  readonly dtype: FloatDtype;
  /** [rows][k] */
  readonly input: Float32Array;
  readonly weight: { readonly words: Uint32Array; readonly values: Float64Array };
  readonly bias: Float32Array;
  /** What `out` holds before. */
  readonly old: Float32Array;
}

function operands(n: number, k: number, dtype: FloatDtype, lines: number, rows: number): Operands {
  const rand = random(n * 7 + k);
  return {
    n,
    k,
    dtype,
    input: floats(rand, rows * k),
    weight: stored(dtype, floats(rand, lines * n * k)),
    bias: floats(rand, n),
    old: floats(rand, rows * n),
  };
}

/** Kernels of a product: those of each family, and the wide one of many rows at sizes that others suit better. */
const WAYS = ['scalar', 'wide', 'blocks'] as const;
type Way = (typeof WAYS)[number];

const shared = (way: Way, o: Operands, bucket: number, count: number, out: GPUBuffer) => ({
  label: 'test',
  variant: way === 'scalar' ? ('scalar' as const) : ('wide' as const),
  ...(way === 'blocks' && { kind: 'block' as const }),
  bucket,
  n: o.n,
  k: o.k,
  dtype: o.dtype,
  step: bench.buffer(Uint32Array.of(9, 9, 9, count)),
  countWord: COUNT_WORD,
  input: bench.buffer(o.input),
  weight: bench.buffer(o.weight.words),
  out,
});

/** A f32 sum of k products, in any order, is within k units of the sum of magnitudes (Higham, section 3.1). */
const bound = (k: number, size: number): number => (k + 4) * 2 ** -24 * size + 1e-6;

const ROWS = [
  { bucket: 1, count: 1 },
  { bucket: 2, count: 1 },
  { bucket: 4, count: 3 },
  { bucket: 8, count: 8 },
  { bucket: 32, count: 21 },
  { bucket: 64, count: 33 },
  { bucket: 128, count: 101 },
] as const;

const SIZES = {
  rows: ROWS,
  n: [1, 5, 37, 64, 130],
  k: [8, 31, 66, 264, 512, 1032],
  dtype: ['f32', 'bf16', 'f16'],
} as const;

describe.each(WAYS)('matmul %s', (way) => {
  it.each(pairwise({ ...SIZES, added: ['nothing', 'bias', 'old', 'both'] }))(
    '$dtype [$n][$k], rows $rows, added $added',
    async ({ rows: { bucket, count }, n, k, dtype, added }) => {
      const o = operands(n, k, dtype, 1, bucket);
      const bias = added === 'bias' || added === 'both';
      const accumulate = added === 'old' || added === 'both';
      const before = accumulate ? o.old : new Float32Array(bucket * n).fill(FILL);
      const out = bench.buffer(before);
      await bench.run(
        matmul({
          ...shared(way, o, bucket, count, out),
          ...(bias && { bias: bench.buffer(o.bias) }),
          accumulate,
        }),
      );
      const got = new Float32Array(await bench.read(out));
      for (let at = 0; at < bucket * n; at++) {
        const [r, j] = [Math.floor(at / n), at % n];
        const { sum, size } = dot(o.input, r, o.weight.values, j, k);
        const want = sum + (bias ? o.bias[j]! : 0) + (accumulate ? o.old[at]! : 0);
        if (r >= count) expect(got[at]).toBe(before[at]);
        else if (Math.abs(got[at]! - want) > bound(k, size)) expect.fail(`[${r}][${j}]: ${got[at]}, expected ${want}`);
      }
    },
  );
});

describe.each(WAYS)('gate-up %s', (way) => {
  it.each(pairwise({ ...SIZES, activation: ['silu', 'gelu_tanh'] }))(
    '$activation $dtype [2 x $n][$k], rows $rows',
    async ({ rows: { bucket, count }, n, k, dtype, activation }) => {
      const o = operands(n, k, dtype, 2, bucket);
      const out = bench.buffer(new Float32Array(bucket * n).fill(FILL));
      await bench.run(gateUp({ ...shared(way, o, bucket, count, out), activation }));
      const got = new Float32Array(await bench.read(out));
      for (let at = 0; at < bucket * n; at++) {
        const [r, j] = [Math.floor(at / n), at % n];
        const gate = dot(o.input, r, o.weight.values, j, k);
        const up = dot(o.input, r, o.weight.values, n + j, k);
        const want = activations[activation](gate.sum) * up.sum;
        // Neither activation is steeper than 1.2, nor further from 0 than its argument.
        const slack = 1.2 * bound(k, gate.size) * Math.abs(up.sum) + Math.abs(gate.sum) * bound(k, up.size) + 1e-5;
        if (r >= count) expect(got[at]).toBe(FILL);
        else if (Math.abs(got[at]! - want) > slack) expect.fail(`[${r}][${j}]: ${got[at]}, expected ${want}`);
      }
    },
  );

  it('is finite where exp overflows', async () => {
    const weight = stored('f32', Float32Array.of(-300, 300, 1, 1));
    const o: Operands = { ...operands(2, 1, 'f32', 2, 1), input: Float32Array.of(1), weight };
    for (const activation of ['silu', 'gelu_tanh'] as const) {
      const out = bench.buffer(16);
      await bench.run(gateUp({ ...shared(way, o, 1, 1, out), activation }));
      const got = new Float32Array(await bench.read(out));
      expect(got[0]).toBeCloseTo(0, 20);
      expect(got[1]).toBe(300);
    }
  });
});

describe.each(['scalar', 'wide'] as const)('products %s', (family) => {
  it.each([
    { k: 264, dtype: 'bf16' },
    { k: 31, dtype: 'f32' },
    { k: 512, dtype: 'bf16' },
    { k: 1032, dtype: 'f16' },
  ] as const)('give a row the same bits in every bucket and place, k $k $dtype', async ({ k, dtype }) => {
    const n = 70;
    const rows = 33;
    const all = operands(n, k, dtype, 2, rows);
    /** The products of the given rows, in that order, in one dispatch. */
    const bitsOf = async (kind: 'matmul' | 'gateUp', order: readonly number[], bucket: number, way: Way = family) => {
      const input = new Float32Array(bucket * k).fill(1e30);
      order.forEach((row, place) => {
        input.set(all.input.subarray(row * k, (row + 1) * k), place * k);
      });
      const out = bench.buffer(new Float32Array(bucket * n));
      const args = shared(way, { ...all, input }, bucket, order.length, out);
      const call = kind === 'matmul' ? matmul({ ...args, accumulate: false }) : gateUp({ ...args, activation: 'silu' });
      expect(call.shader.includes('block')).toBe(way === 'blocks');
      await bench.run(call);
      const words = new Uint32Array(await bench.read(out));
      return new Map(order.map((row, place) => [row, words.slice(place * n, (place + 1) * n).join()]));
    };
    for (const kind of ['matmul', 'gateUp'] as const) {
      const order = Array.from({ length: rows }, (_x, i) => (i * 14 + 5) % rows);
      const together = await bitsOf(kind, order, 128);
      expect(await bitsOf(kind, order, 64)).toEqual(together);
      if (family === 'wide' && k % 8 === 0) {
        for (const bucket of [128, 64, 32]) {
          for (const [row, bits] of await bitsOf(kind, order.slice(0, bucket), bucket, 'blocks'))
            expect(bits).toBe(together.get(row));
        }
      }
      expect(new Set(together.values()).size).toBe(rows);
      for (const row of [0, 17, 32]) expect((await bitsOf(kind, [row], 1)).get(row)).toBe(together.get(row));
      for (const [few, bucket] of [
        [[32, 0], 2],
        [[5, 9, 17], 4],
        [[31, 30, 17, 2, 1, 0, 8], 8],
        [[3, 30, 17, 2, 1, 0, 8, 32, 20, 10, 11, 12], 32],
      ] as const) {
        for (const [row, bits] of await bitsOf(kind, few, bucket)) expect(bits).toBe(together.get(row));
      }
    }
  });

  it.each([
    { bucket: 1, k: 66, dtype: 'f32' },
    { bucket: 4, k: 264, dtype: 'bf16' },
    { bucket: 128, k: 512, dtype: 'f16' },
  ] as const)('of the parts of a weight give the bits of the whole, $bucket rows', async ({ bucket, k, dtype }) => {
    const way = family === 'wide' && bucket === 128 ? 'blocks' : family;
    const n = 150;
    for (const lines of [1, 2]) {
      const o = operands(n, k, dtype, lines, bucket);
      const call = (operand: Pick<Operands, 'n' | 'weight'>, out: GPUBuffer, first = 0) => {
        const args = { ...shared(way, { ...o, ...operand }, bucket, bucket, out), columns: { first, of: n } };
        return lines === 1
          ? matmul({ ...args, bias: bench.buffer(o.bias), accumulate: true })
          : gateUp({ ...args, activation: 'silu' });
      };
      const [whole, parts] = [bench.buffer(o.old), bench.buffer(o.old)];
      await bench.run(call(o, whole));
      for (const [first, count] of [
        [0, 67],
        [67, 1],
        [68, 82],
      ] as const) {
        const rows = (line: number) => o.weight.values.slice((line * n + first) * k, (line * n + first + count) * k);
        const values = Array.from({ length: lines }, (_x, line) => [...rows(line)]).flat();
        await bench.run(call({ n: count, weight: stored(dtype, Float32Array.from(values)) }, parts, first));
      }
      const words = async (buffer: GPUBuffer) => new Uint32Array(await bench.read(buffer));
      expect(await words(parts)).toEqual(await words(whole));
      expect(await words(whole)).not.toEqual(new Uint32Array(o.old.buffer));
    }
  });

  it('cover more columns than one dimension of a dispatch holds', async () => {
    const o = operands(600, 8, 'f32', 1, 1);
    const out = bench.buffer(600 * 4);
    const call = matmul({ ...shared(family, o, 1, 1, out), accumulate: false });
    const groups = call.workgroups[0] * call.workgroups[1];
    const [n, k, , ...rest] = call.params!;
    const folded: KernelCall = {
      ...call,
      params: [n!, k!, 3, ...rest],
      workgroups: [3, Math.ceil(groups / 3), 1],
    };
    expect(folded.workgroups[1]).toBeGreaterThan(1);
    await bench.run(folded);
    const got = new Float32Array(await bench.read(out));
    got.forEach((x, j) => {
      expect(Math.abs(x - dot(o.input, 0, o.weight.values, j, 8).sum)).toBeLessThan(1e-5);
    });
    const huge = matmul({ ...shared(family, { ...o, n: 4_000_003 }, 64, 64, out), accumulate: false });
    expect(Math.max(...huge.workgroups)).toBeLessThanOrEqual(65_535);
    expect(huge.workgroups[0]).toBe(huge.params![2]);
  });
});

describe('a product of one row that norms its input', () => {
  it.each(
    pairwise({
      n: [5, 130, 2100],
      k: [64, 264, 1024, 1032, 2048],
      dtype: ['f32', 'bf16', 'f16'],
      offset: [0, 1],
      bias: [false, true],
    }),
  )('has the bits of a norm before it, $dtype [$n][$k], offset $offset, bias $bias', async (c) => {
    const { n, k, dtype, offset } = c;
    const o = operands(n, k, dtype, 2, 1);
    const weight = bench.buffer(floats(random(k), k));
    const normed = bench.buffer(4 * k);
    const [apart, inside, gatedApart, gatedInside] = [0, 1, 2, 3].map(() => bench.buffer(4 * n)) as [
      GPUBuffer,
      GPUBuffer,
      GPUBuffer,
      GPUBuffer,
    ];
    const { input, ...rest } = shared('wide', o, 1, 1, apart);
    const norm = { weight, eps: 1e-6, offset };
    const added = { accumulate: false, ...(c.bias && { bias: bench.buffer(o.bias) }) };
    await bench.run(
      rmsNorm({ ...rest, ...norm, width: k, gather: null, input, out: normed, accumulate: false }),
      matmul({ ...rest, ...added, input: normed, out: apart }),
      matmul({ ...rest, ...added, input, norm, out: inside }),
      gateUp({ ...rest, input: normed, activation: 'silu', out: gatedApart }),
      gateUp({ ...rest, input, norm, activation: 'silu', out: gatedInside }),
    );
    const words = async (buffer: GPUBuffer) => new Uint32Array(await bench.read(buffer));
    expect(await words(inside)).toEqual(await words(apart));
    expect(await words(gatedInside)).toEqual(await words(gatedApart));
    expect((await words(apart)).some((word) => word !== 0)).toBe(true);
  });

  it('is of one row of a wide kernel alone', () => {
    const o = operands(8, 64, 'f32', 1, 2);
    const norm = { weight: bench.buffer(256), eps: 1e-6, offset: 0 };
    for (const [variant, bucket] of [
      ['wide', 2],
      ['scalar', 1],
    ] as const) {
      const call = () => matmul({ ...shared(variant, o, bucket, 1, bench.buffer(64)), norm, accumulate: false });
      expect(call).toThrow("can't norm its input");
    }
  });
});
