import { describe, expect, it } from 'vitest';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE, LOGPROB_STRIDE } from '../../../src/engine/tables.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { Bench, openDawn } from '../dawn.ts';
import { argmax, type DrawKey, draw, gumbel, keep, normals, threefry } from './reference.ts';
import { World } from './world.ts';

const VOCAB = 1023;
const ROWS = 64;
/** Float32 may fairly decide a closer draw the other way. */
const CLEAR = 1e-3;

const bench = new Bench(await openDawn());
const newWorld = (variant: KernelVariant) =>
  new World(bench, variant, VOCAB, { maxRows: ROWS, maxLogitRows: ROWS, maxSlots: ROWS });

/** What each of `keys` draws from `logits`, all in one step. */
async function drawAll(world: World, logits: readonly number[], sampling: Partial<SamplingParams>, keys: DrawKey[]) {
  const rows = keys.map(({ seed, choice, offset }, slot) => {
    const generated = new Array<number>(offset).fill(0);
    world.setSlot(slot, { prompt: [1], generated, choice, sampling: { ...sampling, seed: [...seed], maxTokens: 60 } });
    return { slot, logits };
  });
  return world.step({ rows });
}

const keyOf = (i: number): DrawKey => ({ seed: [i, 0x9e3779b9], choice: i % 3, offset: i % 7 });

it('the reference RNG gives the known answers of Random123 for threefry4x32-20', () => {
  const ones = [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff] as const;
  expect(threefry([0, 0, 0, 0], [0, 0, 0, 0])).toEqual([0x9c6ca96a, 0xe17eae66, 0xfc10ecd4, 0x5256a7d8]);
  expect(threefry(ones, ones)).toEqual([0x2a881696, 0x57012287, 0xf6c7446e, 0xa16a6732]);
  expect(
    threefry([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89]),
  ).toEqual([0x59cd1dbb, 0xb8879579, 0x86b5d00c, 0xac8b6d84]);
});

describe.each(['scalar', 'wide'] as const)('%s', (variant) => {
  const world = newWorld(variant);
  const bell = normals(VOCAB, 2.5, 7);
  const steps = bell.map((x) => Math.round(x * 2) / 2);
  const flat = normals(VOCAB, 0.3, 8);
  const shifted = bell.map((x) => Math.fround(x + 3000));

  /**
   * Probes of a kept set: keys under which a given id wins if, and only if, it is kept. For each id that should be kept
   * one such key, as far as `tries` keys go; and keys under which one of the best dropped ids would win if it were kept.
   */
  function probes(logits: readonly number[], s: SamplingParams, kept: readonly number[], tries: number) {
    const inside = new Set(kept);
    const dropped = logits
      .map((_, id) => id)
      .filter((id) => !inside.has(id))
      .sort((a, b) => logits[b]! - logits[a]!)
      .slice(0, 4);
    const winners = new Map<number, { key: DrawKey; id: number }>();
    const intruders: { key: DrawKey; id: number; without: number }[] = [];
    for (let i = 0; i < tries && winners.size + intruders.length < ROWS; i++) {
      const key = keyOf(i);
      const all = draw(logits, s.temperature, [...kept, ...dropped], key);
      if (all.margin < CLEAR) continue;
      if (inside.has(all.id)) {
        if (!winners.has(all.id)) winners.set(all.id, { key, id: all.id });
      } else if (intruders.length < 8) {
        const rightful = draw(logits, s.temperature, kept, key);
        if (rightful.margin > CLEAR) intruders.push({ key, id: rightful.id, without: all.id });
      }
    }
    return { winners: [...winners.values()], intruders };
  }

  it.each<[name: string, logits: readonly number[], Partial<SamplingParams>, kept: number | null]>([
    ['top-k 1', bell, { topK: 1 }, 1],
    ['top-k 40', bell, { topK: 40 }, 40],
    ['top-p 0.5', bell, { topP: 0.5 }, null],
    ['top-p 0.95', bell, { topP: 0.95, temperature: 0.6 }, null],
    ['top-p below the best', bell, { topP: 0.01 }, 1],
    ['min-p', bell, { minP: 0.05 }, null],
    ['min-p 1', bell, { minP: 1 }, 1],
    ['top-k, then top-p of what is left', bell, { temperature: 0.7, topK: 40, topP: 0.95 }, null],
    ['min-p, top-k and top-p', bell, { temperature: 1.3, minP: 0.1, topK: 30, topP: 0.9 }, null],
    ['min-p stricter than top-k', bell, { minP: 0.2, topK: 200 }, null],
    ['a hot, flat row', flat, { temperature: 100, topK: 21, topP: 0.5 }, 11],
    ['a cold row', bell, { temperature: 0.05, topP: 0.999 }, null],
    ['far from zero', shifted, { temperature: 0.7, topK: 40, topP: 0.9 }, null],
    ['ties at the k-th: all of them kept', steps, { topK: 10 }, null],
    ['ties at the top-p border: all of them kept', steps, { topP: 0.6 }, null],
  ])('%s: exactly the ids of the definition can be drawn', async (_name, logits, sampling, size) => {
    const s = { ...GREEDY, temperature: 1, ...sampling };
    const { ids, margin } = keep(logits, s);
    expect(margin).toBeGreaterThan(1e-5);
    if (size !== null) expect(ids.length).toBe(size);
    const { winners, intruders } = probes(logits, s, ids, 3000);
    // The border itself is probed from both sides.
    expect(winners.map((w) => w.id)).toContain(ids.at(-1));
    expect(winners.length).toBeGreaterThanOrEqual(Math.min(ids.length, 12));
    if (s.topP > 0.1 && s.minP < 1 && s.topK !== 1 && s.temperature > 0.1) expect(intruders.length).toBeGreaterThan(0);
    const all = [...winners, ...intruders];
    expect(
      await drawAll(
        world,
        logits,
        s,
        all.map((p) => p.key),
      ),
    ).toEqual(all.map((p) => p.id));
  });

  it.each<[string, Partial<SamplingParams>]>([
    ['temperature alone', { temperature: 1 }],
    ['a top-k of the whole vocabulary or more', { temperature: 1, topK: VOCAB }],
    ['high temperature', { temperature: 50 }],
  ])('%s draws from all ids, as the reference does', async (_name, sampling) => {
    const ids = bell.map((_, id) => id);
    const expected = Array.from({ length: 200 }, (_, i) => ({
      key: keyOf(i),
      ...draw(bell, sampling.temperature!, ids, keyOf(i)),
    }))
      .filter((d) => d.margin > CLEAR)
      .slice(0, ROWS);
    expect(expected.length).toBe(ROWS);
    expect(new Set(expected.map((d) => d.id)).size).toBeGreaterThan(20);
    expect(
      await drawAll(
        world,
        bell,
        sampling,
        expected.map((d) => d.key),
      ),
    ).toEqual(expected.map((d) => d.id));
  });

  it('draws come in the proportions of the softmax (chi-square) along the offsets of many seeds', async () => {
    const chances = [0.35, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02];
    const logits = new Array<number>(VOCAB).fill(-1e9);
    for (const [i, p] of chances.entries()) logits[100 * i + 3] = Math.fround(Math.log(p) + 5);
    const numSteps = variant === 'scalar' ? 40 : 10;
    const rows = Array.from({ length: ROWS }, (_, slot) => {
      world.setSlot(slot, { prompt: [1], sampling: { temperature: 1, seed: [slot, 99], maxTokens: 60 } });
      return { slot, logits };
    });
    const seen = new Map<number, number>();
    for (let step = 0; step < numSteps; step++) {
      for (const id of await world.step({ rows })) seen.set(id, (seen.get(id) ?? 0) + 1);
    }
    const total = numSteps * ROWS;
    const chi = chances.reduce((sum, p, i) => sum + ((seen.get(100 * i + 3) ?? 0) - p * total) ** 2 / (p * total), 0);
    expect([...seen.values()].reduce((a, b) => a + b, 0)).toBe(total);
    expect([...seen.keys()].every((id) => id % 100 === 3)).toBe(true);
    // 7 degrees of freedom: 24.3 is passed by chance once in a thousand.
    expect(chi).toBeLessThan(24.3);
  });

  it('the seed, the choice and the offset each change the draw; the slot does not', async () => {
    const same: DrawKey = { seed: [5, 6], choice: 1, offset: 2 };
    const keys = [
      same,
      { ...same, seed: [6, 6] as const },
      { ...same, seed: [5, 7] as const },
      { ...same, choice: 2 },
      { ...same, offset: 3 },
      same,
    ];
    const got = await drawAll(world, flat, { temperature: 1 }, keys);
    expect(got[5]).toBe(got[0]);
    expect(new Set(got).size).toBe(5);
  });

  it('greedy rows take the largest score, the lowest id of equal ones', async () => {
    const tied = bell.map((x, id) => (id === 700 || id === 313 || id === 1022 ? 9 : x));
    const rows = [bell, tied, flat, shifted, steps].map((logits, slot) => ({ slot, logits }));
    for (const { slot } of rows)
      world.setSlot(slot, { prompt: [1], sampling: { temperature: slot === 4 ? 1e-6 : 0, topK: 3, topP: 0.5 } });
    expect(await world.step({ rows })).toEqual([argmax(bell), 313, argmax(flat), argmax(shifted), argmax(steps)]);
  });

  it.each<[string, Partial<SamplingParams>]>([
    ['greedy', {}],
    ['sampled', { temperature: 1, topK: 40, topP: 0.95 }],
    ['sampled with min-p', { temperature: 0.7, minP: 0.1 }],
  ])('survives weird logits: %s', async (_name, sampling) => {
    const at = (value: number, rest: number, ...ids: number[]) =>
      Array.from({ length: VOCAB }, (_, id) => (ids.includes(id) ? value : rest));
    const cases = [
      { logits: at(3.4e38, -3.4e38, 17), allowed: [17] },
      { logits: at(0, Number.NEGATIVE_INFINITY, 1022), allowed: [1022] },
      { logits: at(Number.POSITIVE_INFINITY, 5, 4), allowed: [4] },
      { logits: at(1e30, -1e30, 8, 9), allowed: [8, 9] },
      { logits: at(1e-40, 0, 3), allowed: null },
      { logits: at(0, 0), allowed: null },
      { logits: at(-1e38, -1e38), allowed: null },
      { logits: at(Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY), allowed: null },
    ];
    const rows = cases.map(({ logits }, slot) => {
      world.setSlot(slot, { prompt: [1], sampling: { ...sampling, seed: [slot, 3] } });
      return { slot, logits };
    });
    const got = await world.step({ rows });
    for (const [i, { allowed }] of cases.entries()) {
      if (allowed) expect(allowed, `case ${i}`).toContain(got[i]);
      else expect(got[i], `case ${i}`).toBeLessThan(VOCAB);
    }
    // Equal logits: every id is as likely as any other, and ties keep them all.
    if (sampling.temperature) {
      const ids = bell.map((_, id) => id);
      expect(got[5]).toBe(
        ids.sort(
          (a, b) =>
            gumbel(b, { seed: [5, 3], choice: 0, offset: 0 }) - gumbel(a, { seed: [5, 3], choice: 0, offset: 0 }),
        )[0],
      );
    } else expect(got[5]).toBe(0);
  });

  it('a row gives the same bits alone, among others, in another place and in a larger bucket', async () => {
    const kind = LOGIT_SAMPLE | LOGIT_LOGPROBS;
    const specs = Array.from({ length: 33 }, (_, i) => ({
      logits: normals(VOCAB, 1 + (i % 5), 100 + i),
      sampling: {
        temperature: [0, 0.7, 1, 1.7][i % 4]!,
        topK: [0, 40, 5][i % 3]!,
        topP: [1, 0.95][i % 2]!,
        minP: [0, 0, 0, 0.02, 0][i % 5]!,
        repetitionPenalty: [1, 1.2][i % 2]!,
        seed: [i, 4] as [number, number],
        logprobs: i % 21,
      },
      prompt: [i, i + 1, 2 * i],
    }));
    const outputs = async (order: readonly number[], bucket: number) => {
      for (const i of order) world.setSlot(i, specs[i]!);
      const rows = order.map((i) => ({ slot: i, logits: specs[i]!.logits, kind }));
      const samples = await world.step({ rows, bucket, admitted: order });
      const scores = await world.words('scores');
      const words = await world.words('logprobs');
      return new Map(
        order.map((slot, i) => [
          slot,
          {
            sample: samples[i],
            scores: [...scores.subarray(i * VOCAB, (i + 1) * VOCAB)],
            logprobs: [...words.subarray(i * LOGPROB_STRIDE, i * LOGPROB_STRIDE + 2 + specs[slot]!.sampling.logprobs)],
          },
        ]),
      );
    };
    const forward = specs.map((_, i) => i);
    const together = await outputs(forward, 33);
    expect(await outputs(forward.toReversed(), ROWS)).toEqual(together);
    const some = [0, 1, 2, 7, 13, 20, 32];
    for (const i of some) expect((await outputs([i], 1)).get(i)).toEqual(together.get(i));
    expect(new Set([...together.values()].map((o) => o.sample)).size).toBeGreaterThan(20);
  });
});
