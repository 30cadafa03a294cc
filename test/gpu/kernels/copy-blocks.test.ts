import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KvDtype } from '../../../src/engine/kernels/dtype.ts';
import { GpuKvCopies } from '../../../src/engine/kv/gpu-copies.ts';
import type { KvLayer } from '../../../src/engine/kv/pool.ts';
import type { ModelSpec } from '../../../src/engine/model/spec.ts';
import type { KvSection } from '../../../src/protocol/transfer.ts';
import { Bench, openDawn } from '../dawn.ts';

const LAYERS = 3;
const BLOCKS = 11;
let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});
afterAll(() => bench.gpu.device.destroy());

/** A pool full of numbers of which no two words are equal. */
function world(blockSize: number, dtype: KvDtype, kvHeads: number, headDim: number) {
  const headBytes = { f32: 4 * headDim, bf16: 2 * headDim, f16: 2 * headDim, int8: headDim + 2 }[dtype];
  const words = (blockSize * kvHeads * headBytes) / 4;
  const spec = { numKvHeads: kvHeads, headDim, layers: Array(LAYERS).fill({}) } as unknown as ModelSpec;
  const host = Array.from({ length: 2 * LAYERS }, (_, part) =>
    Uint32Array.from({ length: BLOCKS * words }, (_, i) => part * 1_000_003 + i),
  );
  const pool: KvLayer[] = Array.from({ length: LAYERS }, (_, layer) => ({
    k: bench.buffer(host[2 * layer]!),
    v: bench.buffer(host[2 * layer + 1]!),
  }));
  return { shape: { spec, blockSize, dtype }, words, host, pool };
}

/** What the layout of a payload says, word by word. */
function payloadOf(
  host: readonly Uint32Array[],
  section: KvSection,
  ids: readonly number[],
  words: number,
): Uint32Array {
  const out: number[] = [];
  for (let part = 2 * section.firstLayer; part < 2 * (section.firstLayer + section.layers); part++)
    for (const id of ids) out.push(...host[part]!.subarray(id * words, (id + 1) * words));
  return Uint32Array.from(out);
}

describe.each([
  [1, 'f16', 1, 8],
  [16, 'f32', 2, 64],
  [5, 'f16', 3, 24],
  [8, 'int8', 1, 40],
  [16, 'int8', 3, 64],
] as const)('blocks of %i tokens in %s, %i heads of %i', (blockSize, dtype, kvHeads, headDim) => {
  const ids = [7, 0, 10, 3];
  const section = { firstBlock: 2, blocks: ids.length, firstLayer: 1, layers: 2 };

  test('are read in the order of the section, [layer][K, V][block]', async () => {
    const { shape, words, host, pool } = world(blockSize, dtype, kvHeads, headDim);
    const copies = await GpuKvCopies.create(bench.gpu.device, bench.pipelines, shape, pool, BLOCKS);
    // More than may be in flight, each of its own blocks.
    const orders = Array.from({ length: 9 }, (_, i) => ids.map((id) => (id + i) % BLOCKS));
    const got = await Promise.all(orders.map((order) => copies.read(section, () => order)));
    for (const [i, order] of orders.entries())
      expect(new Uint32Array(got[i]!)).toEqual(payloadOf(host, section, order, words));
    await expect(
      copies.read(section, () => {
        throw new Error('let go');
      }),
    ).rejects.toThrow('let go');
    copies.destroy();
    await expect(copies.read(section, () => ids)).rejects.toThrow('The engine is closed');
  });

  test('are written to their places and nowhere else, one write after the other', async () => {
    const { shape, words, host, pool } = world(blockSize, dtype, kvHeads, headDim);
    const copies = await GpuKvCopies.create(bench.gpu.device, bench.pipelines, shape, pool, BLOCKS);
    const expected = host.map((part) => part.slice());
    const one = { ...section, blocks: 1, firstLayer: 0, layers: 1 };
    for (const [at, [s, order]] of (
      [
        [section, ids],
        [one, [4]],
        [section, [1, 2, 0, 9]],
      ] as const
    ).entries()) {
      const payload = payloadOf(host, s, order, words).map((word) => word ^ (0x55550000 + at));
      copies.write(s, order, new Uint8Array(payload.buffer));
      for (let part = 2 * s.firstLayer, from = 0; part < 2 * (s.firstLayer + s.layers); part++)
        for (const id of order) {
          expected[part]!.set(payload.subarray(from, from + words), id * words);
          from += words;
        }
      payload.fill(0);
    }
    for (const [layer, { k, v }] of pool.entries()) {
      expect(new Uint32Array(await bench.read(k))).toEqual(expected[2 * layer]);
      expect(new Uint32Array(await bench.read(v))).toEqual(expected[2 * layer + 1]);
    }
    copies.destroy();
  });
});
