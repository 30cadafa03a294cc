import type { Card } from '../../protocol/messages.ts';
import type { LoadTable } from './load-table.ts';

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
}
