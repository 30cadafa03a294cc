import { componentOf, GENERATE, newId, pathOf, queryEndpoint } from './cards/names.ts';
import {
  channelRecord,
  type Instance,
  instanceRecord,
  modelRecord,
  type Publisher,
  sourceRecord,
} from './cards/records.ts';
import type { Discovery } from './discovery/discovery.ts';
import type { DiscoveryRecord } from './discovery/store.ts';
import type { EventPlane } from './events/event-plane.ts';
import { type KvFeed, LoadPublisher } from './events/publishers.ts';
import { recoveryHandler } from './events/recovery.ts';
import type { BridgeMetrics } from './metrics.ts';
import type { BridgeNode, Handler, RequestPlane } from './ports.ts';

/** What all workers of a bridge share. */
export interface WorkerDeps {
  readonly namespace: string;
  readonly plane: RequestPlane;
  readonly events: EventPlane;
  readonly feed: KvFeed;
  readonly discovery: Discovery;
  readonly metrics: BridgeMetrics;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** One node as one worker of Dynamo: an instance with its card, one publisher a rank, and one for its load. It has an id of its own, and never changes. */
export class Worker {
  readonly #instance: Instance;
  readonly #records: DiscoveryRecord[];
  readonly #served: Instance[] = [];
  readonly #load: LoadPublisher;

  /** Serves its endpoints from now on. card: of its model and role. handler: answers requests. */
  constructor(
    readonly node: BridgeNode,
    card: object,
    handler: Handler,
    private readonly deps: WorkerDeps,
  ) {
    const { namespace, plane, events, feed, now } = deps;
    const { dpRank, dpSize, role } = node.card;
    const worker = newId();
    this.#instance = {
      namespace,
      component: componentOf(node.model, role),
      endpoint: GENERATE,
      instance: worker,
      address: plane.address,
    };
    this.#load = new LoadPublisher(worker, events, now);
    const publisher = (id: number, topic: Publisher['topic']): Publisher => ({
      id,
      of: this.#instance,
      topic,
      zmqEndpoint: events.endpoint,
    });
    this.#serve(this.#instance, handler);
    const records = [instanceRecord(this.#instance), modelRecord(this.#instance, card)];
    const caches: DiscoveryRecord[] = [];
    for (let rank = dpRank; rank < dpRank + dpSize; rank++) {
      const kv = feed.publish(node.id, { worker, rank });
      const recovery = { ...this.#instance, endpoint: queryEndpoint(kv.id) };
      this.#serve(recovery, recoveryHandler(kv));
      const of = publisher(kv.id, 'kv-events');
      records.push(instanceRecord(recovery));
      caches.push(channelRecord(of), sourceRecord(of, rank, recovery));
    }
    this.#records = [...records, ...caches, channelRecord(publisher(this.#load.id, 'kv_metrics'))];
  }

  /** Appears in discovery: first where it is served, then what it is. */
  async join(): Promise<void> {
    await Promise.all(this.#records.map((record) => this.deps.discovery.put(record)));
  }

  /** Leaves discovery; its streams run on, and its endpoints are still served. */
  async leave(): Promise<void> {
    const { discovery, feed } = this.deps;
    const { dpRank, dpSize } = this.node.card;
    for (let rank = dpRank; rank < dpRank + dpSize; rank++) feed.stop(this.node.id, rank);
    await Promise.all(this.#records.map((record) => discovery.remove(record)));
  }

  /** Blocks in use of a rank. */
  used(rank: number, blocks: number): void {
    this.#load.used(rank, blocks);
  }

  /** Its endpoints are served no more. */
  end(): void {
    const { plane, metrics } = this.deps;
    for (const instance of this.#served) {
      plane.remove(pathOf(instance.instance, instance.endpoint));
      metrics.forget(instance);
    }
  }

  #serve(instance: Instance, handler: Handler): void {
    const { plane, metrics } = this.deps;
    plane.serve(pathOf(instance.instance, instance.endpoint), handler, metrics.observer(instance));
    this.#served.push(instance);
  }
}
