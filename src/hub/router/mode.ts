import type { Choice } from './choice.ts';
import type { CostKnobs } from './cost.ts';

export type RouterModeName = 'kv' | 'round-robin' | 'random' | 'least-loaded' | 'direct';

/** A way to choose: gives the number of the chosen candidate. */
export interface RouterMode {
  choose(choice: Choice, knobs: CostKnobs): number;
}

/**
 * The one of least value; among equals the one that waits longest for a request. values: one for each candidate; an array, since a
 * function that gives them takes three times as long.
 */
export function least({ slots, loads }: Choice, values: Float64Array): number {
  const { lastChosen } = loads;
  let best = 0;
  let lowest = Number.POSITIVE_INFINITY;
  let waiting = Number.POSITIVE_INFINITY;
  for (let i = 0; i < slots.length; i++) {
    const own = values[i]!;
    if (own > lowest) continue;
    const chosen = lastChosen[slots[i]!]!;
    if (own === lowest && chosen >= waiting) continue;
    best = i;
    lowest = own;
    waiting = chosen;
  }
  return best;
}
