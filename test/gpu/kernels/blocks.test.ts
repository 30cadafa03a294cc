import { beforeAll, describe, expect, it } from 'vitest';
import type { WeightDtype } from '../../../src/engine/kernels/dtype.ts';
import { embed } from '../../../src/engine/kernels/embed.ts';
import { expertDown, expertGateUp } from '../../../src/engine/kernels/experts.ts';
import { gateUp } from '../../../src/engine/kernels/gate-up.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { BLOCK_DTYPES, storedWeight } from './blocks.ts';
import { pairwise } from './pairwise.ts';
import { activations, dot, floats, random } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 77;
const COUNT_WORD = 1;
const VARIANTS = ['scalar', 'wide'] as const;

function operands(n: number, k: number, dtype: WeightDtype, lines: number, rows: number) {
  const rand = random(n * 7 + k);
  return {
    n,
    k,
    dtype,
    input: floats(rand, rows * k),
    weight: storedWeight(dtype, floats(rand, lines * n * k), k),
    bias: floats(rand, 2 * n),
  };
}

const shared = (variant: KernelVariant, o: ReturnType<typeof operands>, bucket: number, count: number) => ({
  label: 'test',
  variant,
  // The kernel of many rows, though these products are small for it.
  ...(variant === 'wide' && bucket === 128 && { kind: 'block' as const }),
  bucket,
  n: o.n,
  k: o.k,
  dtype: o.dtype,
  ...(o.weight.scalesAt !== undefined && { scalesAt: o.weight.scalesAt }),
  step: bench.buffer(Uint32Array.of(9, count)),
  countWord: COUNT_WORD,
  input: bench.buffer(o.input),
  weight: bench.buffer(o.weight.words),
});

/** As in products.test.ts: a f32 sum of k products in any order; the numbers themselves are rounded once more. */
const bound = (k: number, size: number): number => (k + 6) * 2 ** -24 * size + 1e-6;

const ROWS = [
  { bucket: 1, count: 1 },
  { bucket: 4, count: 3 },
  { bucket: 32, count: 21 },
  { bucket: 128, count: 101 },
] as const;
const SIZES = { variant: VARIANTS, rows: ROWS, n: [1, 37, 130], k: [31, 160, 264, 1024], dtype: BLOCK_DTYPES };

describe('matmul of weights in blocks', () => {
  it.each(pairwise({ ...SIZES, among: [false, true] }))(
    '$variant $dtype [$n][$k], rows $rows, among other columns $among',
    async ({ variant, rows: { bucket, count }, n, k, dtype, among }) => {
      const o = operands(n, k, dtype, 1, bucket);
      const columns = among ? { first: n - 1, of: 2 * n } : { first: 0, of: n };
      const out = bench.buffer(new Float32Array(bucket * columns.of).fill(FILL));
      const args = { ...shared(variant, o, bucket, count), accumulate: among, bias: bench.buffer(o.bias), out };
      await bench.run(matmul(among ? { ...args, columns } : args));
      const got = new Float32Array(await bench.read(out)).subarray(0, bucket * columns.of);
      for (const [at, x] of got.entries()) {
        const [r, column] = [Math.floor(at / columns.of), at % columns.of];
        const j = column - columns.first;
        if (r >= count || j < 0 || j >= n) {
          expect(x).toBe(FILL);
          continue;
        }
        const { sum, size } = dot(o.input, r, o.weight.values, j, k);
        const want = sum + o.bias[column]! + (among ? FILL : 0);
        if (!(Math.abs(x - want) <= bound(k, size + Math.abs(want))))
          expect.fail(`[${r}][${j}]: ${x}, expected ${want}`);
      }
    },
  );
});

describe('gate-up of weights in blocks', () => {
  it.each(pairwise({ ...SIZES, n: [5, 64] }))(
    '$variant $dtype [2 x $n][$k], rows $rows',
    async ({ variant, rows: { bucket, count }, n, k, dtype }) => {
      const o = operands(n, k, dtype, 2, bucket);
      const out = bench.buffer(new Float32Array(bucket * n).fill(FILL));
      await bench.run(gateUp({ ...shared(variant, o, bucket, count), activation: 'silu', out }));
      const got = new Float32Array(await bench.read(out));
      for (let at = 0; at < bucket * n; at++) {
        const [r, j, x] = [Math.floor(at / n), at % n, got[at]!];
        if (r >= count) {
          expect(x).toBe(FILL);
          continue;
        }
        const gate = dot(o.input, r, o.weight.values, j, k);
        const up = dot(o.input, r, o.weight.values, n + j, k);
        const want = activations.silu(gate.sum) * up.sum;
        const slack = 1.2 * bound(k, gate.size) * Math.abs(up.sum) + Math.abs(gate.sum) * bound(k, up.size) + 1e-5;
        if (!(Math.abs(x - want) <= slack)) expect.fail(`[${r}][${j}]: ${x}, expected ${want}`);
      }
    },
  );
});

describe.each(VARIANTS)('experts of weights in blocks, %s', (variant) => {
  it.each(BLOCK_DTYPES)('%s', async (dtype) => {
    const [experts, perToken, n, k, count] = [5, 2, 37, 96, 3];
    const ids = [4, 0, 1, 4, 2, 3];
    const chosen = bench.buffer(
      Uint32Array.from(ids.flatMap((e, i) => [e, new Uint32Array(Float32Array.of(0.25 + i).buffer)[0]!])),
    );
    const up = operands(n, k, dtype, 2 * experts, 4);
    const gated = bench.buffer(new Float32Array(4 * perToken * n).fill(FILL));
    const routed = { perToken, chosen };
    await bench.run(expertGateUp({ ...shared(variant, up, 4, count), ...routed, activation: 'silu', out: gated }));
    const middle = new Float32Array(await bench.read(gated));
    for (let pair = 0; pair < count * perToken; pair++) {
      for (let j = 0; j < n; j++) {
        const line = ids[pair]! * 2 * n + j;
        const gate = dot(up.input, Math.floor(pair / perToken), up.weight.values, line, k);
        const other = dot(up.input, Math.floor(pair / perToken), up.weight.values, line + n, k);
        expect(Math.abs(middle[pair * n + j]! - activations.silu(gate.sum) * other.sum)).toBeLessThan(1e-4);
      }
    }
    const down = { ...operands(k, n, dtype, experts, 4 * perToken), input: middle };
    const out = bench.buffer(new Float32Array(4 * k).fill(FILL));
    await bench.run(expertDown({ ...shared(variant, down, 4, count), ...routed, accumulate: false, out }));
    const got = new Float32Array(await bench.read(out));
    for (let r = 0; r < 4; r++) {
      for (let j = 0; j < k; j++) {
        const parts = [0, 1].map((p) => {
          const pair = r * perToken + p;
          return (0.25 + pair) * dot(middle, pair, down.weight.values, ids[pair]! * k + j, n).sum;
        });
        const want = r < count ? parts[0]! + parts[1]! : FILL;
        const slack = r < count ? 1e-4 * (1 + Math.abs(parts[0]!) + Math.abs(parts[1]!)) : 0;
        expect(Math.abs(got[r * k + j]! - want)).toBeLessThanOrEqual(slack);
      }
    }
  });
});

describe('embed of a table in blocks', () => {
  it.each(pairwise({ dtype: BLOCK_DTYPES, width: [33, 160] }))('$dtype, width $width', async ({ dtype, width }) => {
    const table = storedWeight(dtype, floats(random(1), 50 * width), width);
    const tokens = [49, 3, 0, 17];
    const out = bench.buffer(new Float32Array(4 * width).fill(FILL));
    await bench.run(
      embed({
        label: 'embed',
        bucket: 4,
        tokens: { first: 0, count: 50 },
        width,
        dtype,
        scalesAt: table.scalesAt!,
        scale: 2,
        rows: bench.buffer(Uint32Array.from(tokens.flatMap((token, r) => [0, r, token, r === 1 ? 0 : 1]))),
        weight: bench.buffer(table.words),
        out,
      }),
    );
    const got = new Float32Array(await bench.read(out));
    for (const [r, token] of tokens.entries()) {
      for (let i = 0; i < width; i++)
        expect(got[r * width + i]).toBe(r === 1 ? FILL : Math.fround(2 * table.values[token * width + i]!));
    }
  });
});

describe.each(VARIANTS)('products of weights in blocks, %s', (variant) => {
  it.each(pairwise({ dtype: BLOCK_DTYPES, k: [31, 160, 1024] }).slice(0, 9))(
    'give a row the same bits in every bucket and place, k $k $dtype',
    async ({ k, dtype }) => {
      const n = 70;
      const all = operands(n, k, dtype, 2, 33);
      const bitsOf = async (kind: 'matmul' | 'gateUp', order: readonly number[], bucket: number) => {
        const input = new Float32Array(bucket * k).fill(1e30);
        order.forEach((row, place) => {
          input.set(all.input.subarray(row * k, (row + 1) * k), place * k);
        });
        const out = bench.buffer(new Float32Array(bucket * n));
        const args = { ...shared(variant, { ...all, input }, bucket, order.length), out };
        await bench.run(
          kind === 'matmul' ? matmul({ ...args, accumulate: false }) : gateUp({ ...args, activation: 'silu' }),
        );
        const words = new Uint32Array(await bench.read(out));
        return new Map(order.map((row, place) => [row, words.slice(place * n, (place + 1) * n).join()]));
      };
      for (const kind of ['matmul', 'gateUp'] as const) {
        const together = await bitsOf(
          kind,
          Array.from({ length: 33 }, (_x, i) => (i * 14 + 5) % 33),
          128,
        );
        expect(new Set(together.values()).size).toBe(33);
        for (const [few, bucket] of [
          [[17], 1],
          [[5, 9, 17], 4],
          [[31, 30, 17, 2, 1, 0, 8], 8],
          [[3, 30, 17, 2, 1, 0, 8, 32, 20, 10, 11, 12], 32],
        ] as const) {
          for (const [row, bits] of await bitsOf(kind, few, bucket)) expect(bits).toBe(together.get(row));
        }
      }
    },
  );
});
