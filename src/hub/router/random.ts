import type { RouterMode } from './mode.ts';

/** Any rank, all alike. random: uniform in [0, 1). */
export function randomMode(random: () => number): RouterMode {
  return { choose: ({ slots }) => Math.floor(random() * slots.length) };
}
