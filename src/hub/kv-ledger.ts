import type { KvEvent, KvSnapshot } from '../protocol/kv-events.ts';

/** What the events of one rank led to (docs/protocol.md, K rules). */
export type KvVerdict = 'in order' | 'gap' | 'waiting for a snapshot';

/** Order of one rank's KV events: ids grow by 1; after a gap only a snapshot helps, and what comes before it is not counted. */
export class KvLedger {
  lastEventId = 0;
  gaps = 0;
  #waiting = false;

  /** On `gap` the caller asks the node for a snapshot, once. Events that are known already are skipped. */
  append(events: readonly KvEvent[]): KvVerdict {
    if (this.#waiting) return 'waiting for a snapshot';
    for (const event of events) {
      if (event.eventId <= this.lastEventId) continue;
      if (event.eventId !== this.lastEventId + 1) {
        this.gaps += 1;
        this.#waiting = true;
        return 'gap';
      }
      this.lastEventId = event.eventId;
    }
    return 'in order';
  }

  replace(snapshot: KvSnapshot): void {
    this.lastEventId = snapshot.lastEventId;
    this.#waiting = false;
  }
}
