import type { KvChange, KvFollower } from '../../protocol/kv-follower.ts';
import { newId } from '../cards/names.ts';
import type { EventPlane } from './event-plane.ts';
import { kvEvent, kvEventsPayload, loadPayload, type RankOfWorker } from './message.ts';
import { RankBlocks } from './rank-blocks.ts';

/** Most events in one message. */
const MAX_BATCH = 64;

/** Numbers the messages of one topic. */
class Numbered {
  readonly id = newId();
  #sequence = 0;

  constructor(
    private readonly plane: Pick<EventPlane, 'publish'>,
    private readonly topic: string,
    private readonly now: () => number,
  ) {}

  publish(payload: Uint8Array): void {
    const { id: publisher, topic } = this;
    this.plane.publish({ publisher, topic, sequence: this.#sequence++, publishedAt: this.now(), payload });
  }
}

/** Tells of the prefix cache of one rank, from its beginning on and whole when asked. */
export class KvPublisher {
  readonly #messages: Numbered;
  #lastEventId = 0;

  constructor(
    private readonly of: RankOfWorker,
    private readonly blocks: RankBlocks,
    plane: Pick<EventPlane, 'publish'>,
    now: () => number,
  ) {
    this.#messages = new Numbered(plane, 'kv-events', now);
  }

  get id(): number {
    return this.#messages.id;
  }

  changed(changes: readonly KvChange[]): void {
    const events = changes.map((change) => kvEvent(this.of, ++this.#lastEventId, change));
    for (let at = 0; at < events.length; at += MAX_BATCH)
      this.#messages.publish(kvEventsPayload(events.slice(at, at + MAX_BATCH)));
  }

  /** All blocks, parents first, as of the last event: the answer of a recovery endpoint. Bigints are u64. */
  treeDump(): object {
    const events = this.blocks.dump().map((change, eventId) => kvEvent(this.of, eventId, change));
    return { TreeDump: { events, last_event_id: this.#lastEventId } };
  }
}

/** Tells how many blocks the ranks of one worker use, each time that changes. */
export class LoadPublisher {
  readonly #messages: Numbered;
  readonly #told = new Map<number, number>();

  constructor(
    private readonly worker: number,
    plane: Pick<EventPlane, 'publish'>,
    now: () => number,
  ) {
    this.#messages = new Numbered(plane, 'kv_metrics', now);
  }

  get id(): number {
    return this.#messages.id;
  }

  used(rank: number, blocks: number): void {
    if (this.#told.get(rank) === blocks) return;
    this.#told.set(rank, blocks);
    this.#messages.publish(loadPayload({ worker: this.worker, rank }, blocks));
  }
}

/** Prefix caches of all ranks of all nodes, registered or not yet, and who publishes each. */
export class KvFeed implements KvFollower {
  readonly #ranks = new Map<string, { readonly blocks: RankBlocks; publisher: KvPublisher | null }>();

  constructor(
    private readonly plane: Pick<EventPlane, 'publish'>,
    private readonly now: () => number,
  ) {}

  changed(node: string, rank: number, _fingerprint: string, changes: readonly KvChange[]): void {
    const { blocks, publisher } = this.#rank(node, rank);
    blocks.apply(changes);
    publisher?.changed(changes);
    if (publisher === null && blocks.size === 0) this.#ranks.delete(key(node, rank));
  }

  /** From now on a rank's changes are published, for a worker that stands for its node. What it has by then is in the publisher's dump. */
  publish(node: string, of: RankOfWorker): KvPublisher {
    const rank = this.#rank(node, of.rank);
    rank.publisher = new KvPublisher(of, rank.blocks, this.plane, this.now);
    return rank.publisher;
  }

  /** No more. */
  stop(node: string, rank: number): void {
    const known = this.#ranks.get(key(node, rank));
    if (known === undefined) return;
    known.publisher = null;
    if (known.blocks.size === 0) this.#ranks.delete(key(node, rank));
  }

  #rank(node: string, rank: number) {
    let known = this.#ranks.get(key(node, rank));
    if (known === undefined) {
      known = { blocks: new RankBlocks(), publisher: null };
      this.#ranks.set(key(node, rank), known);
    }
    return known;
  }
}

const key = (node: string, rank: number) => `${node}:${rank}`;
