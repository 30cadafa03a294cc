import { beforeAll, describe, expect, it } from 'vitest';
import { ropeKv } from '../../../src/engine/kernels/rope-kv.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { floats, random, rmsNormRow, rotate, unstored } from './reference.ts';
import { element, type Row, rowsBuffer, type Shape, world } from './world.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 77;

interface Options {
  readonly rotaryDim: number;
  readonly qkNorm: boolean;
  readonly offset: number;
  readonly theta: number;
}

async function check(variant: KernelVariant, shape: Shape, rows: readonly Row[], o: Options): Promise<void> {
  const rand = random(shape.headDim);
  const { numHeads, numKvHeads, headDim, kvDtype } = shape;
  const w = world(shape, Math.max(...rows.map((r) => r.slot)) + 1, rand);
  const width = (numHeads + 2 * numKvHeads) * headDim;
  const qkv = floats(rand, rows.length * width, 3);
  const norms = floats(rand, 2 * headDim);
  const invFreq = Float32Array.from({ length: o.rotaryDim / 2 }, (_x, i) => o.theta ** ((-2 * i) / o.rotaryDim));
  const q = bench.buffer(new Float32Array(rows.length * numHeads * headDim).fill(FILL));
  const kPool = bench.buffer(w.k.words);
  const vPool = bench.buffer(w.v.words);
  await bench.run(
    ropeKv({
      ...shape,
      ...o,
      label: 'rope',
      variant,
      bucket: rows.length,
      eps: 1e-6,
      rows: rowsBuffer(bench, rows),
      blockTable: bench.buffer(w.table),
      qkv: bench.buffer(qkv),
      norms: bench.buffer(norms),
      invFreq: bench.buffer(invFreq),
      q,
      kPool,
      vPool,
    }),
  );
  const gotQ = new Float32Array(await bench.read(q));
  const [gotK, gotV] = [unstored(kvDtype, await bench.read(kPool)), unstored(kvDtype, await bench.read(vPool))];
  const wantK = w.k.values.slice();
  const wantV = w.v.values.slice();
  const near = (got: number, want: number, what: string, relative: number) => {
    if (Math.abs(got - want) > relative * (1 + Math.abs(want))) expect.fail(`${what}: ${got}, expected ${want}`);
  };
  rows.forEach((row, r) => {
    const head = (i: number) => [...qkv.subarray(r * width + i * headDim, r * width + (i + 1) * headDim)];
    const turned = (i: number, norm: Float32Array) =>
      rotate(o.qkNorm ? rmsNormRow(head(i), [...norm], 1e-6, o.offset) : head(i), row.position, invFreq, o.rotaryDim);
    for (let h = 0; h < numHeads; h++) {
      const want = turned(h, norms.subarray(0, headDim));
      want.forEach((x, d) => {
        near(gotQ[(r * numHeads + h) * headDim + d]!, row.active ? x : FILL, `q row ${r} head ${h} dim ${d}`, 3e-6);
      });
    }
    if (!row.active) return;
    for (let h = 0; h < numKvHeads; h++) {
      const at = element(w, row.slot, row.position, h);
      wantK.set(turned(numHeads + h, norms.subarray(headDim)), at);
      wantV.set(head(numHeads + numKvHeads + h), at);
    }
  });
  // The whole pools: the rows' places hold what they should, all others what they held.
  const unit = { f32: 3e-6, bf16: 2 ** -8, f16: 2 ** -10 }[kvDtype];
  wantK.forEach((x, i) => {
    near(gotK[i]!, x, `k element ${i}`, unit);
  });
  wantV.forEach((x, i) => {
    near(gotV[i]!, x, `v element ${i}`, unit);
  });
}

describe.each(['scalar', 'wide'] as const)('rope and kv write %s', (variant) => {
  it('turns heads and fills pages', async () => {
    const shape: Shape = {
      numHeads: 4,
      numKvHeads: 2,
      headDim: 64,
      kvDtype: 'bf16',
      blockSize: 16,
      maxBlocksPerSeq: 4,
    };
    const rows = [0, 15, 16, 63].map((position, slot) => ({ slot, position, active: slot !== 2 }));
    await check(variant, shape, rows, { rotaryDim: 64, qkNorm: true, offset: 0, theta: 1e4 });
    await check(variant, { ...shape, kvDtype: 'f32' }, rows, { rotaryDim: 32, qkNorm: false, offset: 0, theta: 1e6 });
  });

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
    await check(variant, shape, rows, { rotaryDim: 64, qkNorm: false, offset: 0, theta });
  });
});
