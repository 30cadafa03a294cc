import { least, type RouterMode } from './mode.ts';

/** The rank with the fewest sequences for its size. */
export const leastLoaded: RouterMode = {
  choose(choice) {
    const { candidates, loads, slots } = choice;
    const values = Float64Array.from(slots, (slot, i) => {
      return loads.sequences[slot]! / Math.max(1, candidates[i]!.card.maxNumSeqs);
    });
    return least(choice, values);
  },
};
