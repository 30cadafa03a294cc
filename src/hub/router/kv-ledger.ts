/** What the id of an event says: the next one, one that is known already, the first after a hole, or one that comes while a snapshot is awaited. */
export type EventOrder = 'next' | 'known' | 'gap' | 'waiting';

/** Order of one rank's KV events (docs/protocol.md, K6 and K8): ids grow by 1; after a gap only a snapshot helps. */
export class KvLedger {
  lastEventId = 0;
  gaps = 0;
  #waiting = false;

  /** Counts an event. On `gap` the caller forgets the rank's blocks and asks the node for a snapshot, once. */
  next(eventId: number): EventOrder {
    if (this.#waiting) return 'waiting';
    if (eventId <= this.lastEventId) return 'known';
    if (eventId !== this.lastEventId + 1) {
      this.gaps += 1;
      this.#waiting = true;
      return 'gap';
    }
    this.lastEventId = eventId;
    return 'next';
  }

  /** Something is missing, whatever the ids say: from now on only a snapshot helps. */
  lost(): void {
    this.#waiting = true;
  }

  /** A whole snapshot as of `lastEventId` is there. */
  replaced(lastEventId: number): void {
    this.lastEventId = lastEventId;
    this.#waiting = false;
  }
}
