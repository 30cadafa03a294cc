import type { KvEvent } from './kv-events.ts';

type Stored = Extract<KvEvent, { type: 'stored' }>;
type Removed = Extract<KvEvent, { type: 'removed' }>;

/** What happened to a rank's prefix cache, as the hub took it: checked, in order, nothing missing. */
export type KvChange =
  | Pick<Stored, 'type' | 'parent' | 'cacheSalt' | 'loraName' | 'blocks'>
  | Pick<Removed, 'type' | 'blockHashes'>
  | { readonly type: 'cleared' };

/**
 * Hears of the prefix caches of all ranks. A rank begins empty. Where the hub forgets a rank (its node left, or an event was lost)
 * that is told as `cleared`, and a snapshot as `cleared` and what is stored.
 */
export interface KvFollower {
  changed(node: string, rank: number, fingerprint: string, changes: readonly KvChange[]): void;
}
