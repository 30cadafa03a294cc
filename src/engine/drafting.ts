/**
 * Whether drafts pay for a sequence, by what its last ones gave; rows cost, also those whose draft is wrong or not there. Plain data,
 * a function of the results consumed so far and of the steps planned since.
 */
export interface Drafting {
  /** Steps with drafts since the last one of which any was accepted. */
  readonly misses: number;
  /** Steps to go without drafts. */
  readonly rest: number;
}

export const DRAFTING: Drafting = { misses: 0, rest: 0 };

/** So many steps may miss before drafts rest. */
const PATIENCE = 2;
const LONGEST_REST = 16;

/** Drafts to ask for, at most `most`; `inFlight`: drafts whose results are not read back. While resting one draft at a time looks for a new match. */
export function wantedDrafts({ misses, rest }: Drafting, inFlight: number, most: number): number {
  if (misses < PATIENCE) return most;
  return rest === 0 && inFlight === 0 ? Math.min(1, most) : 0;
}

/** After a step was planned without drafts. */
export function rested({ misses, rest }: Drafting): Drafting {
  return { misses, rest: Math.max(0, rest - 1) };
}

/** After the results of a step with drafts. */
export function drafted({ misses }: Drafting, accepted: number): Drafting {
  if (accepted > 0) return DRAFTING;
  const beyond = Math.max(0, misses + 1 - PATIENCE);
  return { misses: misses + 1, rest: Math.min(LONGEST_REST, 2 ** Math.min(beyond, 10)) };
}
