import { describe, expect, it } from 'vitest';
import { DRAFTING, type Drafting, drafted, rested, wantedDrafts } from '../../../src/engine/drafting.ts';

const results = (...accepted: readonly number[]): Drafting => accepted.reduce(drafted, DRAFTING);

describe('drafts of a sequence', () => {
  it('are as many as may be, at the beginning and while any is accepted, whatever is in flight', () => {
    expect(wantedDrafts(DRAFTING, 0, 4)).toBe(4);
    expect(wantedDrafts(results(1, 4, 2), 12, 4)).toBe(4);
    expect(wantedDrafts(results(0, 3), 0, 4)).toBe(4);
    expect(wantedDrafts(results(0), 0, 4)).toBe(4);
    expect(wantedDrafts(DRAFTING, 0, 0)).toBe(0);
  });

  it('rest for longer and longer while none is accepted, one draft at a time in between', () => {
    const rests: number[] = [];
    let state = results(0);
    for (let miss = 0; miss < 7; miss++) {
      state = drafted(state, 0);
      rests.push(state.rest);
      for (let step = 0; step < rests.at(-1)!; step++) {
        expect(wantedDrafts(state, 0, 4)).toBe(0);
        state = rested(state);
      }
      expect(wantedDrafts(state, 0, 4)).toBe(1);
      // Until that one is read back there is no other.
      expect(wantedDrafts(state, 1, 4)).toBe(0);
      expect(wantedDrafts(state, 0, 0)).toBe(0);
    }
    expect(rests).toEqual([...rests].sort((a, b) => a - b));
    expect([rests[0]! > 0, rests.at(-1)! > 4 * rests[0]!, rests.at(-1)]).toEqual([true, true, rests.at(-2)]);
  });

  it('are all there again once one is accepted', () => {
    expect(wantedDrafts(results(0, 0, 0, 0, 1), 0, 4)).toBe(4);
  });
});
