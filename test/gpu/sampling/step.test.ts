import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE, NO_TOKEN } from '../../../src/engine/tables.ts';
import { Bench, openDawn } from '../dawn.ts';
import { World } from './world.ts';

const VOCAB = 101;
const IN_PROMPT = 0x80000000;
const bench = new Bench(await openDawn());
const sizes = { maxRows: 140, maxLogitRows: 40 };

/** Logits whose largest is `id`. */
const peak = (id: number) => Array.from({ length: VOCAB }, (_, i) => -Math.abs(i - id));

/** Rows of `rows` as the kernels see them. */
async function rowsOf(world: World, count: number): Promise<number[][]> {
  const words = await world.words('rows');
  return Array.from({ length: count }, (_, r) => [...words.subarray(4 * r, 4 * r + 4)]);
}

describe('begin', () => {
  it('resolves rows: given positions and derived ones; rows past the end are inactive', async () => {
    const world = new World(bench, 'scalar', VOCAB, sizes);
    world.setSlot(2, { prompt: [11, 12, 13, 14], generated: [15] });
    world.setSlot(39, { prompt: [21, 22, 23] });
    const rows = [
      { slot: 39, position: 0, kind: null },
      { slot: 39, position: 1, kind: null },
      { slot: 2, kind: null },
      { slot: 39, kind: null },
    ];
    // Words of an earlier step, to be overwritten.
    world.write({ rows: Array.from({ length: 140 }, () => ({ slot: 2, kind: null })) });
    await bench.run(...world.calls({ rows: [], bucket: 140 }));
    await world.step({ rows, bucket: 70 });
    const [resolved, padded] = [(await rowsOf(world, 140)).slice(0, 4), (await rowsOf(world, 140)).slice(4, 70)];
    expect(resolved).toEqual([
      [39, 0, 21, 1],
      [39, 1, 22, 1],
      [2, 4, 15, 1],
      [39, 2, 23, 1],
    ]);
    expect(padded.every((row) => row[3] === 0)).toBe(true);
  });

  it('applies every block-table delta and no other change, however few rows are dispatched', async () => {
    const world = new World(bench, 'scalar', VOCAB, sizes);
    const deltas = Array.from({ length: 300 }, (_, i) => [Math.floor(i / 8), i % 8, 1000 + i] as const);
    await world.step({ rows: [{ slot: 0, position: 0, kind: null }], deltas, bucket: 1 });
    await world.step({ rows: [{ slot: 0, position: 0, kind: null }], deltas: [[5, 3, 7]], bucket: 1 });
    const expected = new Array<number>(320).fill(0);
    for (const [slot, index, block] of deltas) expected[slot * 8 + index] = block;
    expected[5 * 8 + 3] = 7;
    expect([...(await world.words('blockTable'))]).toEqual(expected);
  });
});

it('slot counts: prompt bits and generated counts of admitted slots, others untouched', async () => {
  const world = new World(bench, 'scalar', VOCAB, sizes);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: VOCAB - 1 }), { minLength: 1, maxLength: 40 }),
      fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 24 }),
      async (prompt, generated) => {
        world.setSlot(7, { prompt, generated });
        world.setSlot(0, { prompt: [1, 1, 2], generated: [2, 3, 3] });
        const before = (await world.slot(8)).counts;
        await world.step({ rows: [{ slot: 7, kind: null }], admitted: [7, 0] });
        const expected = new Uint32Array(VOCAB);
        for (const id of generated) expected[id]! += 1;
        for (const id of new Set(prompt)) expected[id]! += IN_PROMPT;
        expect((await world.slot(7)).counts).toEqual(expected);
        expect([...(await world.slot(0)).counts.subarray(0, 5)]).toEqual([0, IN_PROMPT, IN_PROMPT + 1, 2, 0]);
        expect((await world.slot(8)).counts).toEqual(before);
      },
    ),
    { numRuns: 15, seed: 3 },
  );
});

describe.each(['scalar', 'wide'] as const)('commit: %s', (variant) => {
  it('appends the token, counts it, and feeds it to the next step', async () => {
    const world = new World(bench, variant, VOCAB, sizes);
    world.setSlot(3, { prompt: [5, 6, 7], sampling: { maxTokens: 10 } });
    const row = { slot: 3, logits: peak(42) };
    expect(await world.step({ rows: [row], admitted: [3] })).toEqual([42]);
    expect(await world.step({ rows: [{ ...row, logits: peak(9) }] })).toEqual([9]);
    expect(await world.step({ rows: [{ ...row, logits: peak(42) }] })).toEqual([42]);
    const slot = await world.slot(3);
    expect(slot).toMatchObject({ length: 6, done: false, tokens: [5, 6, 7, 42, 9, 42] });
    expect([slot.counts[5], slot.counts[42], slot.counts[9], slot.counts[8]]).toEqual([IN_PROMPT, 2, 1, 0]);
    // The last step computed the token before the one it sampled.
    expect((await rowsOf(world, 1))[0]).toEqual([3, 4, 9, 1]);
  });

  it('ends at a stop id and at the maximal length; a done slot then samples nothing and changes nothing', async () => {
    const world = new World(bench, variant, VOCAB, sizes);
    world.setSlot(0, { prompt: [1, 2], sampling: { stopIds: [50, 42], maxTokens: 9 } });
    world.setSlot(1, { prompt: [1, 2], sampling: { maxTokens: 1 } });
    world.setSlot(2, { prompt: [1, 2], sampling: { stopIds: [41], maxTokens: 9 } });
    const rows = [0, 1, 2].map((slot) => ({ slot, logits: peak(42) }));
    const admitted = [0, 1, 2];
    expect(await world.step({ rows, admitted })).toEqual([42, 42, 42]);
    expect([(await world.slot(0)).done, (await world.slot(1)).done, (await world.slot(2)).done]).toEqual([
      true,
      true,
      false,
    ]);
    const before = [await world.slot(0), await world.slot(1)];
    const kind = LOGIT_SAMPLE | LOGIT_LOGPROBS;
    expect(await world.step({ rows: rows.map((r) => ({ ...r, kind })) })).toEqual([NO_TOKEN, NO_TOKEN, 42]);
    expect([await world.slot(0), await world.slot(1)]).toEqual(before);
    // Nor does a row of a given position bring it back.
    expect(await world.step({ rows: [{ slot: 0, position: 1, logits: peak(42) }] })).toEqual([NO_TOKEN]);
    expect(await world.slot(0)).toEqual(before[0]);
  });

  it('samples only the rows that ask for it, and writes nothing past the logit rows', async () => {
    const world = new World(bench, variant, VOCAB, sizes);
    for (const slot of [4, 5]) world.setSlot(slot, { prompt: [1, 2, 3] });
    world.bench.gpu.device.queue.writeBuffer(world.buffers.samples, 0, new Uint32Array(40).fill(77));
    const rows = [
      { slot: 4, position: 0, kind: null },
      { slot: 4, position: 1, kind: LOGIT_LOGPROBS, logits: peak(1) },
      { slot: 5, kind: LOGIT_SAMPLE, logits: peak(60) },
    ];
    expect(await world.step({ rows, admitted: [4, 5], bucket: 8 })).toEqual([NO_TOKEN, 60]);
    expect([...(await world.words('samples'))].slice(2, 8)).toEqual(new Array(6).fill(77));
    expect(await world.slot(4)).toMatchObject({ length: 3, tokens: [1, 2, 3] });
    expect(await world.slot(5)).toMatchObject({ length: 4, tokens: [1, 2, 3, 60] });
  });

  it('never writes past a history that is full', async () => {
    const world = new World(bench, variant, VOCAB, sizes);
    const full = Array.from({ length: world.sizes.maxLen }, (_, i) => i);
    world.setSlot(0, { prompt: full, maxLength: 1000 });
    world.setSlot(1, { prompt: [1, 2] });
    expect(await world.step({ rows: [{ slot: 0, logits: peak(9) }], admitted: [0, 1] })).toEqual([NO_TOKEN]);
    expect(await world.slot(1)).toMatchObject({ length: 2, tokens: [1, 2] });
  });
});
