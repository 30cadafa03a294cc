import { beforeAll, describe, expect, it } from 'vitest';
import type { FloatDtype } from '../../../src/engine/kernels/dtype.ts';
import { gateUp } from '../../../src/engine/kernels/gate-up.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { activations, dot, floats, random, stored } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const COUNT_WORD = 3;
const FILL = 77;

interface Case {
  readonly variant: KernelVariant;
  readonly dtype: FloatDtype;
  readonly n: number;
  readonly k: number;
  readonly bucket: number;
  readonly count: number;
}

interface Operands {
  readonly input: Float32Array;
  readonly weight: { words: Uint32Array; values: Float64Array };
  readonly bias: Float32Array;
  readonly old: Float32Array;
}

function operands(c: Case, lines: number, seed: number): Operands {
  const rand = random(seed);
  return {
    input: floats(rand, c.bucket * c.k),
    weight: stored(c.dtype, floats(rand, lines * c.n * c.k)),
    bias: floats(rand, c.n),
    old: floats(rand, c.bucket * c.n),
  };
}

function shared(c: Case, o: Operands, out: GPUBuffer) {
  return {
    label: 'test',
    variant: c.variant,
    bucket: c.bucket,
    n: c.n,
    k: c.k,
    dtype: c.dtype,
    step: bench.buffer(Uint32Array.of(9, 9, 9, c.count)),
    countWord: COUNT_WORD,
    input: bench.buffer(o.input),
    weight: bench.buffer(o.weight.words),
    out,
  };
}

/** A f32 sum of k products, in any order, is within k units of the sum of magnitudes (Higham, section 3.1). */
const bound = (k: number, size: number): number => (k + 4) * 2 ** -24 * size + 1e-6;

async function checkMatmul(c: Case, bias: boolean, accumulate: boolean): Promise<void> {
  const o = operands(c, 1, c.n * 7 + c.k);
  const out = bench.buffer(accumulate ? o.old : new Float32Array(c.bucket * c.n).fill(FILL));
  await bench.run(matmul({ ...shared(c, o, out), ...(bias && { bias: bench.buffer(o.bias) }), accumulate }));
  const got = new Float32Array(await bench.read(out));
  for (let r = 0; r < c.bucket; r++) {
    for (let j = 0; j < c.n; j++) {
      const at = r * c.n + j;
      if (r >= c.count) {
        expect(got[at]).toBe(accumulate ? o.old[at] : FILL);
        continue;
      }
      const { sum, size } = dot(o.input, r, o.weight.values, j, c.k);
      const want = sum + (bias ? o.bias[j]! : 0) + (accumulate ? o.old[at]! : 0);
      if (Math.abs(got[at]! - want) > bound(c.k, size)) expect.fail(`[${r}][${j}]: ${got[at]}, expected ${want}`);
    }
  }
}

describe.each(['scalar', 'wide'] as const)('matmul %s', (variant) => {
  it.each([
    { dtype: 'bf16', n: 64, k: 64, bucket: 1, count: 1 },
    { dtype: 'f16', n: 37, k: 40, bucket: 4, count: 3 },
    { dtype: 'f32', n: 10, k: 25, bucket: 16, count: 11 },
  ] as const)('$dtype $n x $k, $count of $bucket rows', async (c) => {
    await checkMatmul({ ...c, variant }, false, false);
    await checkMatmul({ ...c, variant }, true, true);
  });
});

describe.each(['scalar', 'wide'] as const)('gate-up %s', (variant) => {
  it.each([
    { dtype: 'bf16', n: 64, k: 64, bucket: 1, count: 1, activation: 'silu' },
    { dtype: 'f16', n: 37, k: 40, bucket: 4, count: 3, activation: 'gelu_tanh' },
    { dtype: 'f32', n: 10, k: 25, bucket: 16, count: 11, activation: 'silu' },
  ] as const)('$activation $dtype $n x $k, $count of $bucket rows', async ({ activation, ...rest }) => {
    const c = { ...rest, variant };
    const o = operands(c, 2, 5);
    const out = bench.buffer(new Float32Array(c.bucket * c.n).fill(FILL));
    await bench.run(gateUp({ ...shared(c, o, out), activation }));
    const got = new Float32Array(await bench.read(out));
    for (let r = 0; r < c.bucket; r++) {
      for (let j = 0; j < c.n; j++) {
        const at = r * c.n + j;
        if (r >= c.count) {
          expect(got[at]).toBe(FILL);
          continue;
        }
        const gate = dot(o.input, r, o.weight.values, j, c.k);
        const up = dot(o.input, r, o.weight.values, c.n + j, c.k);
        const want = activations[activation](gate.sum) * up.sum;
        const slack = 1.2 * bound(c.k, gate.size) * Math.abs(up.sum) + Math.abs(gate.sum) * bound(c.k, up.size) + 1e-5;
        if (Math.abs(got[at]! - want) > slack) expect.fail(`[${r}][${j}]: ${got[at]}, expected ${want}`);
      }
    }
  });
});
