import type { KvDtype } from '../../../src/engine/kernels/dtype.ts';
import type { Bench } from '../dawn.ts';
import { attend, floats, type Int8Layout, type Random, type Stored, storedKv } from './reference.ts';

/** Sizes of a paged attention test. */
export interface Shape {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly kvDtype: KvDtype;
  readonly blockSize: number;
  readonly maxBlocksPerSeq: number;
}

/** One row of a step. */
export interface Row {
  readonly slot: number;
  readonly position: number;
  readonly active: boolean;
}

/** A pool whose every element is known, and a block table of distinct blocks in random order. */
export interface World {
  readonly shape: Shape;
  readonly table: Uint32Array;
  readonly k: Stored;
  readonly v: Stored;
}

export function world(shape: Shape, slots: number, rand: Random): World {
  const blocks = slots * shape.maxBlocksPerSeq + 3;
  const table = Uint32Array.from({ length: blocks }, (_x, i) => i);
  for (let i = blocks - 1; i > 0; i--) {
    const j = Math.floor(rand() * (i + 1));
    [table[i], table[j]] = [table[j]!, table[i]!];
  }
  const elements = blocks * shape.blockSize * shape.numKvHeads * shape.headDim;
  return {
    shape,
    table: table.slice(0, slots * shape.maxBlocksPerSeq),
    k: storedKv(shape.kvDtype, floats(rand, elements, 2), int8Layout(shape)),
    v: storedKv(shape.kvDtype, floats(rand, elements), int8Layout(shape)),
  };
}

export function int8Layout({ headDim, blockSize, numKvHeads }: Shape): Int8Layout {
  return { headDim, perBlock: blockSize * numKvHeads };
}

/** Number of the first element of a KV head at one position of a slot: [block][token in block][kv head][dim]. */
export function element(w: World, slot: number, position: number, head: number): number {
  const { blockSize, maxBlocksPerSeq, numKvHeads, headDim } = w.shape;
  const block = w.table[slot * maxBlocksPerSeq + Math.floor(position / blockSize)]!;
  return ((block * blockSize + (position % blockSize)) * numKvHeads + head) * headDim;
}

/** What attention should give one row and query head; q is [row][head][dim]. */
export function expectedAttention(
  w: World,
  row: Row,
  q: readonly number[],
  head: number,
  options: { scale: number; slidingWindow: number; softcap: number },
): number[] {
  const { numHeads, numKvHeads, headDim } = w.shape;
  const kvHead = Math.floor(head / (numHeads / numKvHeads));
  const first = options.slidingWindow > 0 ? Math.max(0, row.position - options.slidingWindow + 1) : 0;
  const positions = Array.from({ length: row.position - first + 1 }, (_x, i) => first + i);
  const read = (pool: Stored) =>
    positions.map((p) => {
      const at = element(w, row.slot, p, kvHead);
      return [...pool.values.subarray(at, at + headDim)];
    });
  return attend(q, read(w.k), read(w.v), options.scale, options.softcap);
}

/** The rows as the kernels read them: vec4<u32>(slot, position, token, active). */
export function rowsBuffer(bench: Bench, rows: readonly Row[]): GPUBuffer {
  return bench.buffer(Uint32Array.from(rows.flatMap((r) => [r.slot, r.position, 0, r.active ? 1 : 0])));
}
