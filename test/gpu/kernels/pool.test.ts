import { beforeAll, describe, expect, it } from 'vitest';
import { pool } from '../../../src/engine/kernels/pool.ts';
import { LOGIT_LAST, LOGIT_MEAN, STEP_NUM_LOGIT_ROWS, stepLayout } from '../../../src/engine/tables.ts';
import { Bench, openDawn } from '../dawn.ts';
import { floats, random } from './reference.ts';

let bench: Bench;
beforeAll(async () => {
  bench = new Bench(await openDawn());
});

const SIZES = {
  ...{ maxRows: 64, maxLogitRows: 8, maxDeltas: 4, maxSlots: 5, maxLen: 512, maxBlocksPerSeq: 4, vocabSize: 32 },
};
const FILL = 77;

/** Rows of one slot in a step, and what is wanted of its last one. */
interface Part {
  readonly slot: number;
  readonly start: number;
  readonly count: number;
  readonly kind: number;
}

describe.each([{ width: 33 }, { width: 256 }])('pool of width $width', ({ width }) => {
  /** One step after the other; returns what each gave, [logit row][width]. */
  async function run(steps: readonly (readonly Part[])[], valuesOf: (part: Part, row: number) => ArrayLike<number>) {
    const sums = bench.buffer(new Float32Array(SIZES.maxSlots * width).fill(FILL));
    const given: Float32Array[][] = [];
    for (const parts of steps) {
      const step = new Uint32Array(stepLayout(SIZES).words);
      const rows = new Uint32Array(SIZES.maxRows * 4);
      const normed = new Float32Array(SIZES.maxRows * width).fill(FILL);
      let at = 0;
      const wanted = parts.filter(({ kind }) => kind !== 0);
      for (const part of parts) {
        for (let i = 0; i < part.count; i++, at++) {
          rows.set([part.slot, part.start + i, 1, 1], at * 4);
          normed.set(Array.from(valuesOf(part, part.start + i)), at * width);
        }
        if (part.kind !== 0) step.set([at - 1, part.kind], stepLayout(SIZES).logits + 2 * wanted.indexOf(part));
      }
      step[STEP_NUM_LOGIT_ROWS] = wanted.length;
      const out = bench.buffer(new Float32Array(SIZES.maxLogitRows * width).fill(FILL));
      await bench.run(
        pool({
          label: 'pool',
          bucket: SIZES.maxLogitRows,
          width,
          sizes: SIZES,
          step: bench.buffer(step),
          rows: bench.buffer(rows),
          normed: bench.buffer(normed),
          sums,
          out,
        }),
      );
      const all = new Float32Array(await bench.read(out));
      given.push(wanted.map((_, i) => all.slice(i * width, (i + 1) * width)));
      expect([...new Set(all.slice(wanted.length * width))]).toEqual([FILL]);
    }
    return given;
  }

  const values = new Map<string, Float32Array>();
  const rand = random(5);
  const known = ({ slot }: Part, position: number) => {
    const key = `${slot} ${position}`;
    const row = values.get(key) ?? floats(rand, width, 3);
    values.set(key, row);
    return row;
  };
  const mean = (slot: number, start: number, count: number): Part => ({ slot, start, count, kind: LOGIT_MEAN });

  it('gives the last row, and sums of float64 within the rounding of f32', async () => {
    const given = await run(
      [
        [
          { slot: 3, start: 0, count: 9, kind: LOGIT_LAST },
          { slot: 1, start: 0, count: 4, kind: 0 },
          mean(0, 0, 20),
          mean(4, 0, 1),
          { slot: 2, start: 16, count: 3, kind: LOGIT_LAST },
        ],
        [mean(4, 1, 12), { slot: 1, start: 4, count: 1, kind: LOGIT_LAST }, mean(0, 20, 7)],
      ],
      known,
    );
    const row = (slot: number, position: number) => values.get(`${slot} ${position}`)!;
    expect(given[0]![0]).toEqual(row(3, 8));
    expect(given[0]![3]).toEqual(row(2, 18));
    expect(given[1]![1]).toEqual(row(1, 4));
    const sums = [
      { got: given[0]![1]!, slot: 0, count: 20 },
      { got: given[0]![2]!, slot: 4, count: 1 },
      { got: given[1]![0]!, slot: 4, count: 13 },
      { got: given[1]![2]!, slot: 0, count: 27 },
    ];
    for (const { got, slot, count } of sums) {
      for (let d = 0; d < width; d++) {
        const all = Array.from({ length: count }, (_, p) => row(slot, p)[d]!);
        const exact = all.reduce((a, b) => a + b, 0);
        const bound = count * 2 ** -24 * all.reduce((a, b) => a + Math.abs(b), 0);
        expect(Math.abs(got[d]! - exact)).toBeLessThanOrEqual(bound);
      }
    }
  });

  it('sums in one order: bit for bit the same in one step, in many, alone, in a crowd and in another slot', async () => {
    const same = (_part: Part, position: number) => known({ slot: 9, start: 0, count: 0, kind: 0 }, position);
    const [[whole]] = (await run([[mean(2, 0, 40)]], same)) as [[Float32Array]];
    const cut = await run([[mean(2, 0, 1)], [mean(2, 1, 16)], [mean(2, 17, 23)]], same);
    expect(cut[2]![0]).toEqual(whole);
    const crowd = await run(
      [
        [mean(0, 0, 5), mean(3, 0, 33), mean(1, 0, 7)],
        [mean(1, 7, 33), { slot: 4, start: 0, count: 2, kind: LOGIT_LAST }, mean(3, 33, 7)],
      ],
      same,
    );
    expect(crowd[1]![0]).toEqual(whole);
    expect(crowd[1]![2]).toEqual(whole);
    // What another prompt left in the slot is not in it.
    const after = await run([[mean(2, 0, 9)], [mean(2, 0, 40)]], same);
    expect(after[1]![0]).toEqual(whole);
  });
});
