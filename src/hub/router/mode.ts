import type { Card } from '../../protocol/messages.ts';
import type { CostKnobs } from './cost.ts';
import type { NodeLoad } from './load-tracker.ts';

export type RouterModeName = 'kv' | 'round-robin' | 'random' | 'least-loaded' | 'direct';

/** A ready node of the request's model, as a router sees it. */
export interface Candidate {
  readonly id: string;
  readonly card: Card;
}

/** A candidate with what a mode may want to know of it. */
export interface Option<C extends Candidate> {
  readonly candidate: C;
  readonly load: NodeLoad;
  /** Leading blocks of the prompt that are in its prefix cache. */
  readonly overlapBlocks: number;
  /** Leading blocks of the prompt that its running requests hold. */
  readonly sharedBlocks: number;
}

/** A way to choose among one or more nodes. */
export interface RouterMode {
  choose<O extends Option<Candidate>>(options: readonly [O, ...O[]], newBlocks: number, knobs: CostKnobs): O;
}

/** The one of least value; among equals the one that waits longest for a request. */
export function least<O extends Option<Candidate>>(options: readonly [O, ...O[]], value: (option: O) => number): O {
  let best = options[0];
  let lowest = value(best);
  for (const option of options) {
    const own = value(option);
    if (own > lowest || (own === lowest && option.load.lastChosen >= best.load.lastChosen)) continue;
    best = option;
    lowest = own;
  }
  return best;
}
