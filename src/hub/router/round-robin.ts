import { least, type RouterMode } from './mode.ts';

/** Each rank in turn: the one that waits longest for a request. */
export const roundRobin: RouterMode = { choose: (choice) => least(choice, new Float64Array(choice.slots.length)) };
