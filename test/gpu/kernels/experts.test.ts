import { beforeAll, describe, expect, it } from 'vitest';
import { expertDown, expertGateUp } from '../../../src/engine/kernels/experts.ts';
import { routeExperts } from '../../../src/engine/kernels/route-experts.ts';
import { softcapLogits } from '../../../src/engine/kernels/softcap-logits.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
import { activations, dot, floats, random, stored } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 7;
const step = (rows: number) => bench.buffer(Uint32Array.of(0, rows));

async function route(logits: Float32Array, rows: number, experts: number, perToken: number, normalized: boolean) {
  const bucket = logits.length / experts;
  const chosen = bench.buffer(new Uint32Array(bucket * perToken * 2).fill(FILL));
  await bench.run(
    routeExperts({
      label: 'route',
      bucket,
      experts,
      perToken,
      normalized,
      step: step(rows),
      countWord: 1,
      logits: bench.buffer(logits),
      chosen,
    }),
  );
  const words = await bench.read(chosen);
  return { ids: new Uint32Array(words), weights: new Float32Array(words) };
}

describe('route experts', () => {
  it.each([
    { experts: 8, perToken: 2, normalized: true },
    { experts: 8, perToken: 8, normalized: false },
    { experts: 61, perToken: 5, normalized: false },
    { experts: 128, perToken: 8, normalized: true },
  ])('$perToken of $experts, normalized $normalized', async ({ experts, perToken, normalized }) => {
    const [bucket, rows] = [32, 21];
    const logits = floats(random(experts), bucket * experts, 4);
    const { ids, weights } = await route(logits, rows, experts, perToken, normalized);
    for (let r = 0; r < bucket; r++) {
      const own = [...logits.subarray(r * experts, (r + 1) * experts)];
      const total = own.reduce((sum, v) => sum + Math.exp(v), 0);
      const best = own.map((v, e) => ({ e, p: Math.exp(v) / total })).sort((a, b) => b.p - a.p);
      const all = normalized ? best.slice(0, perToken).reduce((sum, { p }) => sum + p, 0) : 1;
      for (let j = 0; j < perToken; j++) {
        const at = 2 * (r * perToken + j);
        if (r >= rows) {
          expect([ids[at], ids[at + 1]]).toEqual([FILL, FILL]);
        } else {
          expect(ids[at]).toBe(best[j]!.e);
          expect(weights[at + 1]).toBeCloseTo(best[j]!.p / all, 5);
        }
      }
    }
  });

  it('takes the lower id first among equal ones, and no expert twice', async () => {
    const { ids, weights } = await route(Float32Array.of(1, 3, 3, 1, 3, 0), 1, 6, 4, true);
    expect([0, 2, 4, 6].map((at) => ids[at])).toEqual([1, 2, 4, 0]);
    expect(weights[1]).toBeCloseTo(1 / (3 + Math.exp(-2)), 6);
  });
});

describe.each(['scalar', 'wide'] as const)('experts %s', (variant) => {
  const cases = pairwise({
    shape: [
      { n: 48, k: 64 },
      { n: 50, k: 36 },
      { n: 6, k: 264 },
    ],
    rows: [
      { bucket: 1, rows: 1 },
      { bucket: 8, rows: 5 },
    ],
    dtype: ['f32', 'bf16', 'f16'],
    perToken: [1, 3],
  });
  const EXPERTS = 5;

  /** Each row's choice: ids differ within a row, weights are any numbers. */
  function choices(bucket: number, perToken: number) {
    const list = Array.from({ length: bucket * perToken }, (_, i) => ({
      expert: (3 * Math.floor(i / perToken) + 2 * (i % perToken) + 1) % EXPERTS,
      weight: Math.fround(0.25 + (i % 5) / 7),
    }));
    const words = new Uint32Array(list.length * 2);
    const floatsOf = new Float32Array(words.buffer);
    for (const [i, { expert, weight }] of list.entries()) {
      words[2 * i] = expert;
      floatsOf[2 * i + 1] = weight;
    }
    return { list, words };
  }

  type Case = (typeof cases)[number];
  const args = ({ shape, rows, dtype, perToken }: Case, input: Float32Array, weight: Uint32Array, out: GPUBuffer) => ({
    ...shape,
    label: 'experts',
    variant,
    bucket: rows.bucket,
    dtype,
    step: step(rows.rows),
    countWord: 1,
    input: bench.buffer(input),
    weight: bench.buffer(weight),
    out,
    perToken,
    chosen: bench.buffer(choices(rows.bucket, perToken).words),
  });

  it.each(cases)('gate and up: $shape, $rows, $dtype, $perToken a row', async (c) => {
    const { shape, rows, dtype, perToken } = c;
    const { n, k } = shape;
    const { bucket } = rows;
    const input = floats(random(k), bucket * k);
    const weight = stored(dtype, floats(random(n), EXPERTS * 2 * n * k, 0.3));
    const { list } = choices(bucket, perToken);
    for (const activation of ['silu', 'gelu_tanh'] as const) {
      const out = bench.buffer(new Float32Array(bucket * perToken * n).fill(FILL));
      await bench.run(expertGateUp({ ...args(c, input, weight.words, out), activation }));
      const got = new Float32Array(await bench.read(out));
      for (const [pair, { expert }] of list.entries()) {
        const row = Math.floor(pair / perToken);
        for (let i = 0; i < n; i++) {
          const line = expert * 2 * n + i;
          const gate = dot(input, row, weight.values, line, k).sum;
          const up = dot(input, row, weight.values, line + n, k).sum;
          const want = row < rows.rows ? activations[activation](gate) * up : FILL;
          expect(Math.abs(got[pair * n + i]! - want)).toBeLessThan(1e-4 * (1 + Math.abs(want)));
        }
      }
    }
  });

  it.each(cases)('down: $shape, $rows, $dtype, $perToken a row', async (c) => {
    const { shape, rows, dtype, perToken } = c;
    const { n, k } = shape;
    const { bucket } = rows;
    const input = floats(random(k), bucket * perToken * k);
    const weight = stored(dtype, floats(random(n), EXPERTS * n * k, 0.3));
    const { list } = choices(bucket, perToken);
    for (const accumulate of [false, true]) {
      const out = bench.buffer(new Float32Array(bucket * n).fill(FILL));
      await bench.run(expertDown({ ...args(c, input, weight.words, out), accumulate }));
      const got = new Float32Array(await bench.read(out));
      for (let r = 0; r < bucket; r++) {
        for (let i = 0; i < n; i++) {
          let want = r >= rows.rows || accumulate ? FILL : 0;
          for (let j = 0; j < perToken && r < rows.rows; j++) {
            const pair = r * perToken + j;
            const { expert, weight: share } = list[pair]!;
            want += share * dot(input, pair, weight.values, expert * n + i, k).sum;
          }
          expect(Math.abs(got[r * n + i]! - want)).toBeLessThan(1e-4 * (1 + Math.abs(want)));
        }
      }
    }
  });

  it.each(cases.slice(0, 3))('of weights in parts give the bits of the whole: $shape, $rows, $dtype', async (c) => {
    const { shape, rows, dtype, perToken } = c;
    const { n, k } = shape;
    for (const lines of [1, 2]) {
      const outRows = rows.bucket * (lines === 2 ? perToken : 1);
      const input = floats(random(k), rows.bucket * perToken * k);
      const { values } = stored(dtype, floats(random(n), EXPERTS * lines * n * k, 0.3));
      const outputs = async (...ranges: (readonly [first: number, count: number])[]) => {
        const out = bench.buffer(new Float32Array(outRows * n).fill(FILL));
        for (const [first, count] of ranges) {
          const matrix = (m: number) => [...values.subarray((m * n + first) * k, (m * n + first + count) * k)];
          const held = Array.from({ length: EXPERTS * lines }, (_, m) => matrix(m)).flat();
          const { words } = stored(dtype, Float32Array.from(held));
          const part = { ...args(c, input, words, out), n: count, columns: { first, of: n } };
          if (lines === 2) await bench.run(expertGateUp({ ...part, activation: 'silu' }));
          else await bench.run(expertDown({ ...part, accumulate: true }));
        }
        return new Uint32Array(await bench.read(out));
      };
      expect(await outputs([0, 2], [2, n - 5], [n - 3, 3])).toEqual(await outputs([0, n]));
    }
  });
});

it('softcap of logits: rows in use only', async () => {
  const [bucket, width, rows, cap] = [4, 33, 3, 5];
  const logits = floats(random(3), bucket * width, 40);
  const buffer = bench.buffer(logits.slice());
  await bench.run(softcapLogits({ label: 'cap', bucket, width, cap, step: step(rows), countWord: 1, logits: buffer }));
  const got = new Float32Array(await bench.read(buffer));
  logits.forEach((v, i) => {
    const want = i < rows * width ? cap * Math.tanh(v / cap) : v;
    expect(Math.abs(got[i]! - want)).toBeLessThan(1e-5);
  });
});
