import { beforeAll, describe, expect, it } from 'vitest';
import { attention } from '../../../src/engine/kernels/attention.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { Bench, openDawn } from '../dawn.ts';
import { floats, random } from './reference.ts';
import { expectedAttention, type Row, rowsBuffer, type Shape, type World, world } from './world.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const FILL = 77;

interface Options {
  readonly scale: number;
  readonly slidingWindow: number;
  readonly softcap: number;
}

async function run(variant: KernelVariant, w: World, rows: readonly Row[], q: Float32Array, options: Options) {
  const out = bench.buffer(new Float32Array(q.length).fill(FILL));
  await bench.run(
    attention({
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
      out,
    }),
  );
  return new Float32Array(await bench.read(out));
}

async function check(variant: KernelVariant, shape: Shape, rows: readonly Row[], options: Options): Promise<void> {
  const rand = random(shape.headDim + rows.length);
  const w = world(shape, Math.max(...rows.map((r) => r.slot)) + 1, rand);
  const q = floats(rand, rows.length * shape.numHeads * shape.headDim, 2);
  const got = await run(variant, w, rows, q, options);
  rows.forEach((row, r) => {
    for (let h = 0; h < shape.numHeads; h++) {
      const at = (r * shape.numHeads + h) * shape.headDim;
      const want = row.active
        ? expectedAttention(w, row, [...q.subarray(at, at + shape.headDim)], h, options)
        : Array.from({ length: shape.headDim }, () => FILL);
      want.forEach((x, d) => {
        if (Math.abs(got[at + d]! - x) > 2e-5)
          expect.fail(`row ${r} head ${h} dim ${d}: ${got[at + d]}, expected ${x}`);
      });
    }
  });
}

describe.each(['scalar', 'wide'] as const)('attention %s', (variant) => {
  it('mixes rows of several slots', async () => {
    const shape: Shape = {
      numHeads: 4,
      numKvHeads: 2,
      headDim: 64,
      kvDtype: 'bf16',
      blockSize: 16,
      maxBlocksPerSeq: 8,
    };
    const rows = [
      { slot: 1, position: 0, active: true },
      { slot: 0, position: 15, active: true },
      { slot: 2, position: 126, active: true },
      { slot: 0, position: 3, active: false },
    ];
    await check(variant, shape, rows, { scale: 0.125, slidingWindow: 0, softcap: 0 });
    await check(variant, shape, rows, { scale: 0.125, slidingWindow: 17, softcap: 5 });
  });
});
