import { describe, expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_MASKED, LOGIT_SAMPLE } from '../../../src/engine/tables.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { Bench, openDawn } from '../dawn.ts';
import { adjust, argmax, draw, keep, logprob, normals } from './reference.ts';
import { World } from './world.ts';

const bench = new Bench(await openDawn());
const MASKED = LOGIT_SAMPLE | LOGIT_MASKED;

/** Logits of which only some ids are left. */
const only = (logits: readonly number[], allowed: readonly number[]) =>
  logits.map((x, id) => (allowed.includes(id) ? x : Number.NEGATIVE_INFINITY));

describe.each([
  ['scalar', 1023],
  ['wide', 1023],
  ['scalar', 4097],
  ['wide', 4097],
] as const)('%s, a vocabulary of %i', (variant, vocab) => {
  const world = new World(bench, variant, vocab);
  const borders = [0, 31, 32, 33, 1021, 1022, vocab - 2, vocab - 1];
  const bell = normals(vocab, 3, 4);

  it('a masked row takes an allowed id, in the distribution of those; a free row beside it takes what it would', async () => {
    const hot: Partial<SamplingParams> = { temperature: 1.5 };
    const cases = Array.from({ length: 24 }, (_, i) => ({
      allowed: i % 3 === 0 ? null : borders.filter((_id, k) => (i >> 1) % (k + 1) !== 1),
      sampling: { ...hot, seed: [i, 77] as [number, number], ...(i % 4 === 0 && { topK: 3, topP: 0.9 }) },
    }));
    for (const [slot, { sampling }] of cases.entries()) world.setSlot(slot, { prompt: [1], sampling });
    const rows = cases.map(({ allowed }, slot) => ({
      slot,
      logits: bell,
      kind: allowed ? MASKED : LOGIT_SAMPLE,
      ...(allowed && { allowed }),
    }));
    const got = await world.step({ rows, admitted: cases.map((_, slot) => slot) });
    const want = cases.map(({ allowed, sampling }) => {
      const s = { ...GREEDY, ...sampling };
      const scores = allowed ? only(bell, allowed) : bell;
      return draw(scores, s.temperature, keep(scores, s).ids, { seed: s.seed, choice: 0, offset: 0 }).id;
    });
    expect(got).toEqual(want);
    expect(new Set(got).size).toBeGreaterThan(6);
  });

  it('no bias, penalty or logit brings a masked id back', async () => {
    const seen = [5, 6, 7];
    const sampling = { logitBias: [[9, 100]] as [number, number][], repetitionPenalty: 100, frequencyPenalty: -2 };
    world.setSlot(0, { prompt: [1], generated: seen, sampling });
    world.setSlot(1, { prompt: [1], sampling: { temperature: 100, topK: 0 } });
    world.setSlot(2, { prompt: [1, 7], generated: [7], sampling: { repetitionPenalty: 100 } });
    const lowest = bell.map(() => Number.NEGATIVE_INFINITY);
    const rows = [
      { slot: 0, logits: bell, kind: MASKED, allowed: [vocab - 1] },
      { slot: 1, logits: bell, kind: MASKED, allowed: [32] },
      // A model that gives all that is allowed no chance at all.
      { slot: 2, logits: lowest, kind: MASKED, allowed: [7] },
    ];
    expect(await world.step({ rows, admitted: [0, 1, 2] })).toEqual([vocab - 1, 32, 7]);
  });

  it('penalties and bias choose among what is allowed', async () => {
    const allowed = [4, 64, 65, 1000];
    const sampling = { logitBias: [[1000, 30]] as [number, number][], presencePenalty: 2 };
    world.setSlot(0, { prompt: [1], generated: [64], sampling });
    const [got] = await world.step({ rows: [{ slot: 0, logits: bell, kind: MASKED, allowed }], admitted: [0] });
    const scores = adjust(only(bell, allowed), { ...GREEDY, ...sampling }, { prompt: [1], generated: [64] });
    expect(got).toBe(argmax(scores));
  });

  it('logprobs are those of the allowed ids', async () => {
    const allowed = [3, 40, 41, 700, vocab - 1];
    world.setSlot(0, { prompt: [1], sampling: { temperature: 1.5, seed: [3, 1], logprobs: 5 } });
    world.setSlot(1, { prompt: [1], sampling: { logprobs: 5 } });
    const kind = LOGIT_SAMPLE | LOGIT_LOGPROBS;
    const rows = [
      { slot: 0, logits: bell, kind: kind | LOGIT_MASKED, allowed },
      { slot: 1, logits: bell, kind },
    ];
    const [masked, free] = await world.step({ rows, admitted: [0, 1] });
    for (const [i, target, logits] of [
      [0, masked!, only(bell, allowed)],
      [1, free!, bell],
    ] as const) {
      const [got, want] = [await world.logprob(i, 5), logprob(logits, target, 5)];
      expect(got.logprob).toBeCloseTo(want.logprob, 4);
      expect(got.rank).toBe(want.rank);
      expect(got.top.map(([id]) => id)).toEqual(want.top.map(([id]) => id));
    }
    expect(allowed).toContain(masked);
  });
});
