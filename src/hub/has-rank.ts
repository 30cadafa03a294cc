import type { Card } from '../protocol/messages.ts';

/** Whether a node has the data-parallel rank. */
export function hasRank({ dpRank, dpSize }: Card, rank: number): boolean {
  return rank >= dpRank && rank < dpRank + dpSize;
}
