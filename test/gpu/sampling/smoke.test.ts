import { expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE } from '../../../src/engine/tables.ts';
import { Bench, openDawn } from '../dawn.ts';
import { World } from './world.ts';

const bench = new Bench(await openDawn());

it.each(['scalar', 'wide'] as const)('%s: samples, commits and scores a first step', async (variant) => {
  const world = new World(bench, variant, 100);
  world.setSlot(3, { prompt: [5, 6, 7], sampling: { stopIds: [42], logprobs: 2 } });
  world.setSlot(1, { prompt: [9], sampling: { temperature: 1, topK: 1, seed: [1, 2] } });
  const logits = Array.from({ length: 100 }, (_, id) => -((id - 42) ** 2) / 10);
  const kind = LOGIT_SAMPLE | LOGIT_LOGPROBS;
  expect(
    await world.step({
      rows: [
        { slot: 3, logits, kind },
        { slot: 1, logits },
      ],
      admitted: [3, 1],
    }),
  ).toEqual([42, 42]);
  const [stopped, going] = [await world.slot(3), await world.slot(1)];
  expect(stopped).toMatchObject({ length: 4, done: true, tokens: [5, 6, 7, 42] });
  expect(going).toMatchObject({ length: 2, done: false, tokens: [9, 42] });
  expect([stopped.counts[5], stopped.counts[42]]).toEqual([0x80000000, 1]);
  const total = logits.reduce((sum, x) => sum + Math.exp(x), 0);
  const got = await world.logprob(0, 2);
  expect(got.rank).toBe(1);
  expect(got.logprob).toBeCloseTo(-Math.log(total), 5);
  expect(got.top.map(([id]) => id)).toEqual([42, 41]);
});
