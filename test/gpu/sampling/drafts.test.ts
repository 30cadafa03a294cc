import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE, NO_TOKEN, REJECTED } from '../../../src/engine/tables.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { Bench, openDawn } from '../dawn.ts';
import { adjust, normals } from './reference.ts';
import { type RowSpec, World } from './world.ts';

const VOCAB = 101;
const bench = new Bench(await openDawn());

/** Logits whose largest is `id`. */
const peak = (id: number) => Array.from({ length: VOCAB }, (_, i) => -Math.abs(i - id));
/** The rows of a decode with drafts, whose samples are `ids`: one for the known token, one for each draft. */
const decode = (slot: number, ids: readonly number[]): RowSpec[] =>
  ids.map((id, draft) => ({ slot, logits: peak(id), ...(draft > 0 && { draft }) }));

/** What the lookup must find, from its definition: the longest match, of these the latest. */
function lookUp(history: readonly number[], { min, max }: { min: number; max: number }, count: number): number[] {
  const length = history.length;
  for (let m = max; m >= min; m--) {
    for (let end = length - 1; end >= m; end--) {
      if (!Array.from({ length: m }, (_, i) => history[end - 1 - i] === history[length - 1 - i]).every(Boolean))
        continue;
      const found = [...history];
      for (let d = 0; d < count; d++) found.push(found[end + d]!);
      return found.slice(length);
    }
  }
  return [];
}

describe.each(['scalar', 'wide'] as const)('drafts: %s', (variant) => {
  const world = new World(bench, variant, VOCAB, { maxLen: 600 });
  /** The drafts of a slot in the rows from `first` on; rows that hold one are active and at the right place. */
  const draftsOf = async (first: number, slot: number, position: number, count: number): Promise<number[]> => {
    const words = await world.words('rows');
    const drafts: number[] = [];
    for (let d = 1; d <= count; d++) {
      const [at, place, token, active] = words.subarray(4 * (first + d), 4 * (first + d) + 4);
      if (active === 0) continue;
      expect([at, place]).toEqual([slot, position + d]);
      expect(drafts).toHaveLength(d - 1);
      drafts.push(token!);
    }
    return drafts;
  };

  it('are what followed the last tokens where they stood before, longest match first, latest of these', async () => {
    const found = { none: 0, some: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 500 }), {
          minLength: 1,
          maxLength: 4,
        }),
        fc.constantFrom({ min: 1, max: 1 }, { min: 1, max: 4 }, { min: 3, max: 3 }, { min: 6, max: 9 }),
        fc.integer({ min: 1, max: 5 }),
        async (histories, lookup, count) => {
          for (const [slot, prompt] of histories.entries()) world.setSlot(slot, { prompt, maxLength: 600 });
          const rows = histories.flatMap((_, slot) => decode(slot, new Array<number>(1 + count).fill(7)));
          await world.step({ rows, lookup, admitted: histories.map((_, slot) => slot), bucket: rows.length + 3 });
          for (const [slot, history] of histories.entries()) {
            const wanted = lookUp(history, lookup, count);
            expect(await draftsOf(slot * (1 + count), slot, history.length - 1, count)).toEqual(wanted);
            found[wanted.length > 0 ? 'some' : 'none']++;
          }
        },
      ),
      { numRuns: 25, seed: 5 },
    );
    expect(Math.min(found.none, found.some)).toBeGreaterThan(5);
  });

  it('are found in a long history, and end before the last token of the slot', async () => {
    // 1, 2, 3, 4 stand at the beginning alone.
    const prompt = [...Array.from({ length: 540 }, (_, i) => 1 + (i % 97) + (i > 96 ? i % 3 : 0)), 1, 2, 3, 4];
    world.setSlot(0, { prompt, maxLength: 600 });
    world.setSlot(1, { prompt, maxLength: 547 });
    world.setSlot(2, { prompt, maxLength: 545 });
    const rows = [0, 1, 2].flatMap((slot) => decode(slot, [50, 50, 50, 50]));
    await world.step({ rows, lookup: { min: 4, max: 4 }, admitted: [0, 1, 2] });
    expect(await draftsOf(0, 0, 543, 3)).toEqual(lookUp(prompt, { min: 4, max: 4 }, 3));
    expect(await draftsOf(0, 0, 543, 3)).toHaveLength(3);
    // Of 547 tokens two more are to be sampled after the next one.
    expect(await draftsOf(4, 1, 543, 3)).toHaveLength(2);
    expect(await draftsOf(8, 2, 543, 3)).toEqual([]);
  });
});

describe.each(['scalar', 'wide'] as const)('acceptance: %s', (variant) => {
  const world = new World(bench, variant, VOCAB);
  // The lookup gives 6, 7, 8 after a last 5.
  const prompt = [5, 6, 7, 8, 9, 5];

  it('takes drafts up to the first wrong one, slot by slot, and the token sampled in its place', async () => {
    const slots = [0, 1, 2, 3];
    for (const slot of slots) world.setSlot(slot, { prompt });
    world.setSlot(4, { prompt: [1, 2, 3] });
    const prefill = { slot: 4, position: 2, logits: peak(33) };
    const samples = await world.step({
      // The sampled tokens of rows whose drafts were wrong count for nothing.
      rows: [
        ...decode(0, [6, 7, 8, 90]),
        ...decode(1, [6, 50, 8, 90]),
        ...decode(2, [40, 7, 8, 90]),
        ...decode(3, [6]),
        prefill,
      ],
      admitted: [...slots, 4],
      bucket: 32,
    });
    const no = REJECTED;
    expect(samples).toEqual([6, 7, 8, 90, 6, 50, no, no, 40, no, no, no, 6, 33]);
    const tokens = await Promise.all([0, 1, 2, 3, 4].map((slot) => world.slot(slot)));
    expect(tokens.map((s) => s.tokens)).toEqual([
      [...prompt, 6, 7, 8, 90],
      [...prompt, 6, 50],
      [...prompt, 40],
      [...prompt, 6],
      [1, 2, 3, 33],
    ]);
    expect([tokens[0]!.counts[90], tokens[1]!.counts[90], tokens[1]!.counts[50], tokens[2]!.counts[7]! & 0xff]).toEqual(
      [1, 0, 1, 0],
    );
    // The next step goes on from what was taken.
    expect(await world.step({ rows: [...decode(1, [70, 70]), ...decode(2, [71])] })).toEqual([70, NO_TOKEN, 71]);
    expect((await world.slot(1)).tokens).toEqual([...prompt, 6, 50, 70]);
  });

  it('ends at a stop id and at the last token, though later drafts were right', async () => {
    world.setSlot(0, { prompt, sampling: { stopIds: [7] } });
    world.setSlot(1, { prompt, sampling: { maxTokens: 2 } });
    world.setSlot(2, { prompt, sampling: { stopIds: [7], minTokens: 2 } });
    const rows = [0, 1, 2].flatMap((slot) => decode(slot, [6, 7, 8, 9]));
    const samples = await world.step({ rows, admitted: [0, 1, 2] });
    // The last two rows of slot 1 are inactive. Slot 2 may not stop yet: 7 is masked, so that the draft 7 is wrong.
    expect(samples.slice(0, 8)).toEqual([6, 7, REJECTED, REJECTED, 6, 7, NO_TOKEN, NO_TOKEN]);
    expect(samples[8]).toBe(6);
    expect([6, 8]).toContain(samples[9]);
    expect(samples.slice(10)).toEqual([REJECTED, REJECTED]);
    expect(await world.slot(0)).toMatchObject({ done: true, length: 8 });
    expect(await world.slot(1)).toMatchObject({ done: true, length: 8 });
    expect(await world.slot(2)).toMatchObject({ done: false, length: 8 });
    const again = await world.step({ rows: [...decode(0, [6, 7]), ...decode(1, [6, 7])] });
    expect(again).toEqual([NO_TOKEN, NO_TOKEN, NO_TOKEN, NO_TOKEN]);
  });

  it('draws each row as it would be drawn alone, drafts counted as generated', async () => {
    const sampling: Partial<SamplingParams> = {
      temperature: 1.5,
      seed: [3, 4],
      minTokens: 3,
      stopIds: [6, 60, 61],
      logitBias: [
        [7, 3],
        [20, 2],
      ],
      repetitionPenalty: 1.3,
      presencePenalty: 0.4,
      frequencyPenalty: 0.7,
      maxTokens: 40,
    };
    // Of an answer that goes on: 7 stands in the prompt, and was generated before.
    const slot = { prompt: [5, 7, 7, 8, 9], generated: [7, 5], sampling };
    const drafts = [7, 7, 8];
    const logits = drafts.map((_, i) => normals(VOCAB, 3, 10 + i)).concat([normals(VOCAB, 3, 20)]);
    world.setSlot(0, slot);
    const rows = logits.map((each, draft) => ({ slot: 0, logits: each, ...(draft > 0 && { draft }) }));
    const step = { rows, lookup: { min: 1, max: 1 }, admitted: [0] };
    world.write(step);
    await bench.run(...world.calls(step));
    const scores = await world.floats('scores');
    for (const [i, each] of logits.entries()) {
      const tokens = { prompt: slot.prompt, generated: [...slot.generated, ...drafts.slice(0, i)] };
      const wanted = adjust(each, { ...GREEDY, ...sampling }, tokens);
      for (const [id, want] of wanted.entries()) {
        const have = scores[i * VOCAB + id]!;
        if (want === Number.NEGATIVE_INFINITY) expect(have).toBeLessThan(-1e38);
        else expect(Math.abs(have - want)).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(want)));
      }
    }
    // What rows of drafts drew, before it was accepted or not, is what such a sequence alone draws.
    world.write(step);
    world.setSlot(0, slot);
    await bench.run(...world.calls(step).filter(({ label }) => label !== 'accept'));
    const drawn = [...(await world.words('samples'))].slice(0, logits.length);
    for (const [i, each] of logits.entries()) {
      world.setSlot(1, { ...slot, generated: [...slot.generated, ...drafts.slice(0, i)] });
      expect(await world.step({ rows: [{ slot: 1, logits: each }], admitted: [1] })).toEqual([drawn[i]]);
    }
  });

  it('gives logprobs to the tokens that were taken', async () => {
    world.setSlot(0, { prompt, sampling: { logprobs: 2 } });
    const kind = LOGIT_SAMPLE | LOGIT_LOGPROBS;
    const rows = decode(0, [6, 7, 50, 90]).map((row) => ({ ...row, kind }));
    expect(await world.step({ rows, admitted: [0] })).toEqual([6, 7, 50, REJECTED]);
    for (const [i, id] of [6, 7, 50].entries()) {
      const { rank, logprob, top } = await world.logprob(i, 2);
      expect([rank, top[0]![0], top[0]![1]]).toEqual([1, id, logprob]);
    }
  });
});
