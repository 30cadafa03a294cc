import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Clock } from '../protocol/clock.ts';
import { startFileServer } from './cards/file-server.ts';
import { type CheckedFiles, checkFiles, modelCard, requireFiles } from './cards/model-card.ts';
import { slugOf } from './cards/names.ts';
import { type DiscoveryConfig, startDiscovery } from './discovery/discovery.ts';
import { startEventPlane } from './events/event-plane.ts';
import { KvFeed } from './events/publishers.ts';
import { BridgeMetrics } from './metrics.ts';
import type { BridgeHub, BridgeModel, BridgeNode } from './ports.ts';
import { generateHandler } from './requests/generate-handler.ts';
import { BridgeStartError } from './start-error.ts';
import { allowedHomes } from './wire/allowed-homes.ts';
import { startRequestPlane } from './wire/request-plane.ts';
import { Worker, type WorkerDeps } from './worker.ts';

/** Where and how the nodes of a hub appear in a Dynamo deployment. */
export interface BridgeConfig {
  readonly namespace: string;
  readonly discovery: DiscoveryConfig;
  /** Numeric address of this machine that Dynamo's frontends reach: requests, events and the files of cards are served there. */
  readonly host: string;
  /** Port of the request plane; 0 = any free one. */
  readonly port: number;
  /** Networks beside the requesting frontend's own address that answers may go to. */
  readonly allow: readonly string[];
}

export interface BridgeDeps {
  readonly clock: Clock;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly log: Logger;
  /** Where a native worker's metrics go. */
  readonly metrics: Registry;
}

/** The nodes of a hub as workers of Dynamo. */
export interface Bridge {
  /** `IP:port` of the request plane. */
  readonly address: string;
  /** All workers leave discovery; their streams run on. */
  leave(): Promise<void>;
  /** Cuts what still runs, and ends. */
  close(): Promise<void>;
}

/** Requests that frontends sent before they heard that a worker left are still taken for so long, milliseconds: other nodes compute them. */
const LATE_MS = 10_000;

interface CardedModel {
  readonly model: BridgeModel;
  readonly files: CheckedFiles;
}

/** Opens all that Dynamo's frontends come to, and registers the nodes as they come and go. Throws `BridgeStartError`, one line that says what to do. */
export async function startBridge(config: BridgeConfig, hub: BridgeHub, deps: BridgeDeps): Promise<Bridge> {
  const { host, port, namespace } = config;
  const { clock, log, now } = deps;
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const allowed = allowedHomes(config.allow);
    checkSlugs(hub.models);
    checkGenerate(hub.models);
    for (const { served, files } of hub.models) requireFiles(served.name, files);
    const plane = await startRequestPlane({ host, port, allowed, log });
    closers.push(() => plane.close());
    const events = await startEventPlane({ host, log });
    closers.push(() => events.close());
    const server = await startFileServer(host, log);
    closers.push(() => server.close());
    const models = new Map<string, CardedModel>();
    for (const model of hub.models) {
      const files = await checkFiles(model.files, (file, digest) => server.serve(file, digest));
      models.set(model.served.name, { model, files });
    }
    const discovery = await startDiscovery(config.discovery, { clock, log });
    closers.push(() => discovery.close());
    const feed = new KvFeed(events, now);
    const metrics = new BridgeMetrics(deps.metrics);
    const shared = { namespace, plane, events, feed, discovery, metrics, now };
    const workers = new Workers(hub, models, shared, { clock, log });
    hub.followKv(feed);
    closers.push(() => workers.stop());
    return { address: plane.address, leave: () => workers.stop(), close };
  } catch (error) {
    await close();
    if (error instanceof BridgeStartError) throw error;
    throw new BridgeStartError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** What workers of the bridge take are requests for tokens. */
function checkGenerate(models: readonly BridgeModel[]): void {
  const pooled = models.find(({ served }) => served.pooler !== null);
  if (pooled === undefined) return;
  throw new BridgeStartError(
    `--dynamo: ${pooled.served.name} is an embedding model, and the bridge serves models that generate. Serve it by a hub without --dynamo, or start with --runner generate.`,
  );
}

/** A component's name is made of a slug: two models of one slug would get each other's requests. */
function checkSlugs(models: readonly BridgeModel[]): void {
  const names = new Map<string, string>();
  for (const { served } of models) {
    const other = names.get(slugOf(served.name));
    if (other !== undefined)
      throw new BridgeStartError(
        `--dynamo: Dynamo takes the names ${other} and ${served.name} for one. Name one with --served-model-name.`,
      );
    names.set(slugOf(served.name), served.name);
  }
}

/** One worker for each ready node, as nodes come and go. */
class Workers {
  readonly #workers = new Map<string, Worker>();
  readonly #stops: (() => void)[];
  /** Takes back that workers that left end later. */
  readonly #leaving = new Set<() => void>();
  #looking = false;
  #stopped = false;

  constructor(
    private readonly hub: BridgeHub,
    private readonly models: ReadonlyMap<string, CardedModel>,
    private readonly deps: WorkerDeps,
    private readonly base: Pick<BridgeDeps, 'clock' | 'log'>,
  ) {
    this.#stops = [
      hub.onNodeChange(() => this.#look()),
      hub.onLoad((node, { rank, usedBlocks }) => this.#workers.get(node)?.used(rank, usedBlocks)),
    ];
    this.#look();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const stop of [...this.#stops.splice(0), ...this.#leaving]) stop();
    const workers = [...this.#workers.values()];
    this.#workers.clear();
    await Promise.all(workers.map((worker) => worker.leave()));
  }

  /** Once for many changes at a time. */
  #look(): void {
    if (this.#looking) return;
    this.#looking = true;
    queueMicrotask(() => {
      this.#looking = false;
      if (!this.#stopped) this.#sync();
    });
  }

  #sync(): void {
    const nodes = new Map(this.hub.nodes().map((node) => [node.id, node]));
    // A node that registered anew has another card, and cards of one id may not change.
    for (const [id, worker] of this.#workers) {
      if (nodes.get(id)?.card === worker.node.card) continue;
      this.#workers.delete(id);
      this.#leave(worker);
    }
    for (const [id, node] of nodes) if (!this.#workers.has(id)) this.#join(node);
  }

  #join(node: BridgeNode): void {
    const carded = this.models.get(node.model);
    if (carded === undefined) return;
    const { model, files } = carded;
    const { hub } = this;
    const { log } = this.base;
    const handler = generateHandler({ hub, worker: { node, model }, log });
    const worker = new Worker(node, modelCard(model, files, node.card), handler, this.deps);
    this.#workers.set(node.id, worker);
    log.info({ node: node.id, model: node.model, role: node.card.role }, 'a node becomes a worker of Dynamo');
    void worker.join();
  }

  #leave(worker: Worker): void {
    const { clock, log } = this.base;
    log.info({ node: worker.node.id }, "a node leaves Dynamo's discovery");
    void worker.leave();
    const stop = clock.after(LATE_MS, () => {
      this.#leaving.delete(stop);
      worker.end();
    });
    this.#leaving.add(stop);
  }
}
