import type { Card } from '../../protocol/messages.ts';
import type { CostKnobs } from './cost.ts';
import type { LoadTable } from './load-table.ts';

export type RouterModeName = 'kv' | 'round-robin' | 'random' | 'least-loaded' | 'direct';

/** One data-parallel rank of a node: what has a pool, a prefix cache and a load of its own. */
export interface Place {
  /** Id of the node. */
  readonly id: string;
  readonly rank: number;
}

/** A ready rank of the request's model, as a router sees it. */
export interface Candidate extends Place {
  readonly card: Card;
}

/** One or more candidates with what a mode may want to know of them; columns, since there may be thousands. */
export interface Choice {
  readonly candidates: readonly Candidate[];
  readonly loads: LoadTable;
  /** Of each candidate, in `loads`. */
  readonly slots: Int32Array;
  /** Leading blocks of the prompt that are in its prefix cache. */
  readonly overlapBlocks: Int32Array;
  /** Leading blocks of the prompt that its running requests hold. */
  readonly sharedBlocks: Int32Array;
  /** Blocks of the prompt. */
  readonly newBlocks: number;
  /** Milliseconds of the clock of `loads`. */
  readonly now: number;
}

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
