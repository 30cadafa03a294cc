import { least, type RouterMode } from './mode.ts';

/** Each node in turn: the one that waits longest for a request. */
export const roundRobin: RouterMode = { choose: (options) => least(options, () => 0) };
