import { least, type RouterMode } from './mode.ts';

/** The node with the fewest sequences for its size. */
export const leastLoaded: RouterMode = {
  choose: (options) => least(options, ({ load, candidate }) => load.sequences / Math.max(1, candidate.card.maxNumSeqs)),
};
