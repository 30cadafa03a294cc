import { describe, expect, it } from 'vitest';
import type { KernelCall } from '../../../src/engine/gpu/kernel.ts';
import { type AttentionArgs, attention, partialsBytes } from '../../../src/engine/kernels/attention.ts';
import type { FloatDtype } from '../../../src/engine/kernels/dtype.ts';
import { gateUp } from '../../../src/engine/kernels/gate-up.ts';
import { matmul } from '../../../src/engine/kernels/matmul.ts';
import { Bench, openDawn } from '../dawn.ts';
import { pairwise } from './pairwise.ts';
import { activations, floats, fromF16, random, stored, toF16 } from './reference.ts';
import { expectedAttention, type Row, rowsBuffer, type Shape, world } from './world.ts';

// On a software adapter, and wherever the browser's flag is not set, these are skipped; `npm run test:gpu -- --adapter=default` runs them.
const bench = new Bench(await openDawn());
const FILL = 77;
const halved = (x: number): number => fromF16(toF16(x));

/** Products of halves are exact in f32; the hardware adds 16 of them at a time, in an order and with a rounding of its own. */
const bound = (k: number, size: number): number => (k + 4) * 2 ** -22 * size + 1e-6;

interface Case {
  readonly dtype: FloatDtype;
  readonly n: number;
  readonly k: number;
  readonly lines: number;
  readonly bucket: number;
}

function operands({ dtype, n, k, lines, bucket }: Case) {
  const rand = random(n * 7 + k);
  const input = floats(rand, bucket * k);
  // One that f16 has no place for: it counts as the largest there is.
  input[3] = 70_000;
  const weight = stored(dtype, floats(rand, lines * n * k));
  const [a, b] = [Float64Array.from(input, halved), Float64Array.from(weight.values, halved)];
  const dot = (row: number, line: number) => {
    let [sum, size] = [0, 0];
    for (let i = 0; i < k; i++) {
      const product = a[row * k + i]! * b[line * k + i]!;
      sum += product;
      size += Math.abs(product);
    }
    return { sum, size };
  };
  return { input, weight, dot, bias: floats(rand, n), old: floats(rand, bucket * n) };
}

const shared = (c: Case, o: ReturnType<typeof operands>, count: number, out: GPUBuffer) => ({
  label: 'test',
  variant: 'wide' as const,
  matrices: true,
  bucket: c.bucket,
  n: c.n,
  k: c.k,
  dtype: c.dtype,
  step: bench.buffer(Uint32Array.of(count)),
  countWord: 0,
  input: bench.buffer(o.input),
  weight: bench.buffer(o.weight.words),
  out,
});

/** Some rows of a batch, its last one in use among them. */
const someRows = (count: number): number[] => [...new Set([0, 1, 15, 16, 63, 64, count - 1])].filter((r) => r < count);

describe.skipIf(!bench.gpu.matrices)('by matrix instructions', () => {
  it.each(
    pairwise({
      rows: [
        { bucket: 16, count: 13 },
        { bucket: 32, count: 32 },
        { bucket: 64, count: 50 },
        { bucket: 128, count: 128 },
        { bucket: 128, count: 101 },
        { bucket: 512, count: 300 },
      ],
      // Whole blocks of columns go straight to `out`; with 4,096 of them blocks have 128 rows.
      n: [64, 100, 192, 4096],
      k: [32, 96, 192, 1024],
      dtype: ['f32', 'bf16', 'f16'],
      added: ['nothing', 'bias', 'old', 'both'],
    }),
  )('matmul $dtype [$n][$k], rows $rows, added $added', async ({ rows: { bucket, count }, n, k, dtype, added }) => {
    const c = { dtype, n, k, lines: 1, bucket };
    const o = operands(c);
    const bias = added === 'bias' || added === 'both';
    const accumulate = added === 'old' || added === 'both';
    const out = bench.buffer(o.old);
    const call = matmul({
      ...shared(c, o, count, out),
      ...(bias && { bias: bench.buffer(o.bias) }),
      accumulate,
    });
    expect(call.shader).toBe('matmul_matrix.wgsl');
    await bench.run(call);
    const got = new Float32Array(await bench.read(out));
    for (const r of someRows(count)) {
      for (let j = 0; j < n; j += n > 1000 ? 37 : 1) {
        const { sum, size } = o.dot(r, j);
        const want = sum + (bias ? o.bias[j]! : 0) + (accumulate ? o.old[r * n + j]! : 0);
        if (!(Math.abs(got[r * n + j]! - want) <= bound(k, size)))
          expect.fail(`[${r}][${j}]: ${got[r * n + j]}, expected ${want}`);
      }
    }
  });

  it.each(
    pairwise({
      rows: [
        { bucket: 16, count: 16 },
        { bucket: 32, count: 17 },
        { bucket: 64, count: 64 },
        { bucket: 128, count: 101 },
        { bucket: 512, count: 512 },
      ],
      n: [32, 50, 3072],
      k: [64, 1024],
      dtype: ['bf16', 'f16'],
      activation: ['silu', 'gelu_tanh'],
    }),
  )(
    'gate-up $activation $dtype [2 x $n][$k], rows $rows',
    async ({ rows: { bucket, count }, n, k, dtype, activation }) => {
      const c = { dtype, n, k, lines: 2, bucket };
      const o = operands(c);
      const out = bench.buffer(new Float32Array(bucket * n).fill(FILL));
      const call = gateUp({ ...shared(c, o, count, out), activation });
      expect(call.shader).toBe('gate_up_matrix.wgsl');
      await bench.run(call);
      const got = new Float32Array(await bench.read(out));
      for (const r of someRows(count)) {
        for (let j = 0; j < n; j += n > 1000 ? 37 : 1) {
          const [gate, up] = [o.dot(r, j), o.dot(r, n + j)];
          const want = activations[activation](gate.sum) * up.sum;
          const slack = 1.2 * bound(k, gate.size) * Math.abs(up.sum) + Math.abs(gate.sum) * bound(k, up.size) + 1e-4;
          if (!(Math.abs(got[r * n + j]! - want) <= slack))
            expect.fail(`[${r}][${j}]: ${got[r * n + j]}, expected ${want}`);
        }
      }
      for (let at = count * n; at < bucket * n; at++) expect(got[at]).toBe(FILL);
    },
  );

  it.each(
    pairwise({
      heads: [
        [2, 2, 16],
        [3, 1, 48],
        [7, 1, 128],
        [4, 2, 64],
      ],
      kvDtype: ['f32', 'bf16', 'f16'],
      blockSize: [8, 16, 64],
      slidingWindow: [0, 17],
      softcap: [0, 5],
      // Large queries make scores that grow from tile to tile, which is when sums are multiplied anew.
      queries: [1, 12],
    }),
  )(
    'attention, heads $heads (query, KV, dimensions), $kvDtype, blocks of $blockSize, window $slidingWindow, softcap $softcap, queries up to $queries',
    async ({ heads: [numHeads, numKvHeads, headDim], kvDtype, blockSize, slidingWindow, softcap, queries }) => {
      const shape: Shape = { numHeads, numKvHeads, headDim, kvDtype, blockSize, maxBlocksPerSeq: 320 / blockSize };
      const rows: Row[] = Array.from({ length: 256 }, (_x, i) => ({
        slot: i < 150 ? 0 : i < 152 ? i : 1,
        position: i < 150 ? 37 + i : i < 152 ? 5 : 100 + i,
        active: i < 250,
      }));
      const options: Pick<AttentionArgs, 'scale' | 'slidingWindow' | 'softcap'> = {
        scale: headDim ** -0.5,
        slidingWindow,
        softcap,
      };
      const rand = random(headDim);
      const w = world(shape, 152, rand);
      const q = floats(rand, rows.length * numHeads * headDim, queries);
      const out = bench.buffer(new Float32Array(q.length).fill(FILL));
      const calls: KernelCall[] = attention({
        ...shape,
        ...options,
        label: 'attention',
        variant: 'wide',
        matrices: true,
        chunks: true,
        bucket: rows.length,
        rows: rowsBuffer(bench, rows),
        blockTable: bench.buffer(w.table),
        q: bench.buffer(q),
        kPool: bench.buffer(w.k.words),
        vPool: bench.buffer(w.v.words),
        partials: bench.buffer(partialsBytes('wide', { ...shape, maxLen: 320 })),
        out,
      });
      expect(calls.map(({ shader }) => shader)).toEqual(['attention_matrix.wgsl', 'attention_wide.wgsl']);
      await bench.run(...calls);
      const got = new Float32Array(await bench.read(out));
      for (const r of [0, 1, 26, 27, 90, 91, 149, 150, 151, 152, 200, 249, 250, 255]) {
        for (let h = 0; h < numHeads; h++) {
          const at = (r * numHeads + h) * headDim;
          const want = rows[r]!.active
            ? expectedAttention(w, rows[r]!, [...q.subarray(at, at + headDim)], h, options)
            : Array.from({ length: headDim }, () => FILL);
          // A score is wrong by about 2^-11 of the sum of its magnitudes, a weight by as much of itself.
          const slack = 2 ** -10 * (1 + queries * Math.sqrt(headDim));
          want.forEach((x, d) => {
            if (!(Math.abs(got[at + d]! - x) <= slack))
              expect.fail(`row ${r} head ${h} dim ${d}: ${got[at + d]}, expected ${x}`);
          });
        }
      }
    },
  );
});
