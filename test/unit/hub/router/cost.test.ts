import { expect, it } from 'vitest';
import { costsOf, softmax } from '../../../../src/hub/router/cost.ts';
import { LoadTable } from '../../../../src/hub/router/load-table.ts';
import { node } from './setup.ts';

const DEFAULT = { overlapScoreCredit: 1, prefillLoadScale: 1, temperature: 0 };
const IDLE = {
  prefillBlocks: 0,
  decodeBlocks: 0,
  newBlocks: 10,
  overlapBlocks: 0,
  sharedBlocks: 0,
  prefillSpeed: 1,
  decodeSpeed: 1,
};

/** Cost of a rank, beside one that has speed 1. */
function cost(terms: typeof IDLE, knobs: typeof DEFAULT): number {
  const loads = new LoadTable();
  const slots = Int32Array.from([loads.take(), loads.take()]);
  const [, slot] = slots;
  loads.prefillMs.set([2, terms.prefillSpeed === 0 ? 0 : 2 / terms.prefillSpeed]);
  loads.decodeMs.set([50, terms.decodeSpeed === 0 ? 0 : 50 / terms.decodeSpeed]);
  loads.prefillBlocks[slot!] = terms.prefillBlocks;
  loads.decodeBlocks[slot!] = terms.decodeBlocks;
  const costs = costsOf(
    {
      ...{ candidates: [node('fast'), node('own')], loads, slots, newBlocks: terms.newBlocks },
      overlapBlocks: Int32Array.from([0, terms.overlapBlocks]),
      sharedBlocks: Int32Array.from([0, terms.sharedBlocks]),
    },
    knobs,
  );
  return costs[1]!;
}

it.each([
  // prefill + decode
  ['an idle rank: 10 + 10', IDLE, DEFAULT, 20],
  ['4 of 10 blocks cached: 6 + 10', { ...IDLE, overlapBlocks: 4 }, DEFAULT, 16],
  ['load: (5 + 10 - 4) + (20 + 10)', { ...IDLE, overlapBlocks: 4, prefillBlocks: 5, decodeBlocks: 20 }, DEFAULT, 41],
  ['3 blocks shared with what runs: 10 + (20 + 10 - 3)', { ...IDLE, decodeBlocks: 20, sharedBlocks: 3 }, DEFAULT, 37],
  ['half credit: (10 - 0.5 x 4) + 10', { ...IDLE, overlapBlocks: 4 }, { ...DEFAULT, overlapScoreCredit: 0.5 }, 18],
  ['double prefill: 2 x 6 + 10', { ...IDLE, overlapBlocks: 4 }, { ...DEFAULT, prefillLoadScale: 2 }, 22],
  ['prefill does not count: 0 + 10', IDLE, { ...DEFAULT, prefillLoadScale: 0 }, 10],
  ['a quarter of the prefill speed: 10 / 0.25 + 10', { ...IDLE, prefillSpeed: 0.25 }, DEFAULT, 50],
  ['a twentieth of both: 20 x (10 + 10)', { ...IDLE, prefillSpeed: 0.05, decodeSpeed: 0.05 }, DEFAULT, 400],
  ['never measured, it counts as the fastest: 10 + 10', { ...IDLE, prefillSpeed: 0, decodeSpeed: 0 }, DEFAULT, 20],
])('%s', (_, terms, knobs, wanted) => {
  expect(cost(terms, knobs)).toBeCloseTo(wanted, 9);
});

it('a cost of 10, 20 and 30 at temperature 1 is drawn like 1 : e^-0.5 : e^-1', () => {
  const sum = 1 + Math.exp(-0.5) + Math.exp(-1);
  const wanted = [1 / sum, Math.exp(-0.5) / sum, Math.exp(-1) / sum];
  for (const [at, chance] of softmax([10, 20, 30], 1).entries()) expect(chance).toBeCloseTo(wanted[at] ?? 0, 12);
  expect(softmax([7, 7], 1)).toEqual([0.5, 0.5]);
});
