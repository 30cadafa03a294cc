import { randomBytes, randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { createApi } from '../frontend/api.ts';
import type { ServedModel } from '../frontend/backend.ts';
import { modelParsers } from '../frontend/parsers/model-parsers.ts';
import { STORE_BOUNDS } from '../frontend/responses/response-store.ts';
import { type Clock, systemClock } from '../protocol/clock.ts';
import { CLOSE } from '../protocol/close-codes.ts';
import type { ClusterNode, ClusterState } from '../protocol/cluster-state.ts';
import { createBlockHasher } from '../protocol/hashes.ts';
import { loadSum } from '../protocol/load-sum.ts';
import { MAX_BULK_MESSAGE_BYTES } from '../protocol/transfer.ts';
import { AccessPolicy } from './access.ts';
import type { AdminActions } from './admin.ts';
import { createApp } from './app.ts';
import { type CloseTimes, Closing } from './closing.ts';
import type { HubConfig } from './config.ts';
import { Disaggregation } from './disagg/disaggregation.ts';
import { BulkRelay } from './disagg/relay.ts';
import { transferMetrics } from './disagg/transfer-metrics.ts';
import { Dispatcher } from './dispatcher.ts';
import { startHubBridge } from './dynamo-bridge.ts';
import { HappeningLog } from './happenings.ts';
import { healthChecksOf, tee } from './health/wiring.ts';
import { History } from './history.ts';
import { startZmqPublisher } from './kv-publisher/zmq-publisher.ts';
import { LoraDesk } from './lora/lora-desk.ts';
import { servedModels } from './lora/served-models.ts';
import { HubMetrics } from './metrics.ts';
import { type ModelFolder, readModelFolder } from './model-folder.ts';
import { modelOffer } from './model-routes.ts';
import { NodeSocket } from './node-socket.ts';
import { describeNode, Registry } from './registry.ts';
import { logRequests } from './request-log.ts';
import { KvIndex } from './router/kv-index.ts';
import { Router } from './router/router.ts';
import { startServer } from './server.ts';
import { startSideServers } from './side-servers.ts';
import { SleepControl } from './sleep.ts';
import { HubStartError } from './start-error.ts';
import { connect, connectBulk, wireOf } from './websocket.ts';

export interface HubDeps {
  readonly log: Logger;
  readonly clock?: Clock;
}

/** A running hub. */
export interface Hub {
  readonly port: number;
  /** Where the hub is, as its own machine reaches it, e.g. `http://127.0.0.1:8080`. */
  readonly url: string;
  readonly models: readonly string[];
  /** Those of them that give embeddings. */
  readonly embeddingModels: readonly string[];
  /** Ports of `/health` and `/metrics` beside the hub's own; null = none. */
  readonly sidePorts: { readonly system: number | null; readonly metrics: number | null };
  /** All nodes and what they do, as `GET /cluster/state` gives it. */
  state(): ClusterState;
  /** Calls back when nodes come, go or change their stage. Returns how to stop it. */
  onNodeChange(listener: () => void): () => void;
  /**
   * Ends the hub in good order, in the times of the config unless given: `/health` says no more; requests that come late are taken
   * for the grace period; then none, and those that run go on until the last has ended, or their time is over; then everything ends.
   * A later call waits for the first; one with shorter times shortens it.
   */
  close(times?: Partial<CloseTimes>): Promise<void>;
}

/** Starts a hub. Throws `HubStartError` (one line: what to do) for a bad model folder or a busy port. */
export async function startHub(config: HubConfig, { log, clock = systemClock }: HubDeps): Promise<Hub> {
  if (config.models.length === 0) throw new HubStartError('A hub needs a model. Give --model a folder.');
  const folders: ModelFolder[] = [];
  for (const model of config.models) folders.push(await readModelFolder(model, config));
  const names = folders.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new HubStartError(`Two models are served as ${twice}. Name one with --served-model-name.`);

  if (config.pooler.config !== null && folders.every(({ pooler }) => pooler === null))
    throw new HubStartError(
      '--pooler-config: none of the models is for embeddings. Start with --runner pooling, or leave it out.',
    );
  const startedAt = Date.now();
  const offered = folders.map((folder) => ({ ...folder, offer: modelOffer(folder, config.joinToken) }));
  const loras = await LoraDesk.open({ config: config.loras, models: folders, joinToken: config.joinToken, clock });
  const registry = new Registry(config, offered, clock, loras);
  loras.use(registry);
  const publisher =
    config.kvPublisher &&
    (await startZmqPublisher({
      config: config.kvPublisher,
      modelName: (fingerprint) => folders.find((folder) => folder.fingerprint === fingerprint)?.name ?? '',
      now: Date.now,
      log,
    }));
  const index = new KvIndex(await createBlockHasher(config.hashAlgo, config.hashSeed), config.blockSize);
  if (publisher !== null) index.follow(publisher);
  const router = new Router({ config: config.router, index, clock, random: Math.random });
  const { limits } = config;
  const happenings = new HappeningLog(Date.now);
  const disaggregation = new Disaggregation({
    config: config.disaggregation,
    blockSize: config.blockSize,
    clock,
    openMs: limits.transferOpenMs,
    maxMs: limits.requestIdleMs,
    hashes: (request) => index.hashes(request),
    newId: randomUUID,
    prefillers: (model) => registry.prefillers(model),
    router,
    counters: {
      ended: (model, transport, outcome) => transfers.ended(model, transport, outcome),
      done: (model, outcome) => transfers.done(model, outcome),
    },
    happened: happenings.add,
  });
  const dispatcher = new Dispatcher({
    nodes: registry,
    router,
    disaggregation,
    clock,
    limits,
    asleep: (model) => sleep.covers(model),
    left: (socket) => sleep.left(socket),
    migrationLimit: config.migrationLimit,
    migrated: (model, type, migration) => metrics.migrated(model, type, migration),
    happened: happenings.add,
    log,
  });
  const sleep = new SleepControl({ registry, dispatcher, clock, finishMs: config.drainSeconds * 1000, log });
  // First: what waits for a node must not go to one that shall sleep.
  registry.onChange((socket) => sleep.look(socket));
  registry.onChange(() => dispatcher.nodesChanged());
  const nodes = (): ClusterNode[] => {
    const requests = dispatcher.perNode();
    return registry
      .sockets()
      .map((socket) =>
        describeNode(socket, { requests: requests.get(socket) ?? 0, sequences: router.sequences(socket.id) }),
      );
  };
  const maxModelLen = ({ name, maxModelLen }: ModelFolder): number => {
    const ready = registry.ready(name).map((socket) => socket.card?.maxModelLen ?? 0);
    return ready.length > 0 ? Math.min(maxModelLen, Math.max(...ready)) : maxModelLen;
  };
  const state = (): ClusterState => ({
    startedAt,
    namespace: config.namespace,
    models: folders.map((folder) => ({
      name: folder.name,
      fingerprint: folder.fingerprint,
      readyNodes: registry.ready(folder.name).length,
      maxModelLen: maxModelLen(folder),
    })),
    nodes: nodes(),
    inflightRequests: dispatcher.inflight,
    migrations: dispatcher.migrations,
    totals: happenings.totals(),
    transfers: disaggregation.state(Date.now()),
    happenings: happenings.last(),
  });

  const models = folders.map(
    (folder): ServedModel => ({
      name: folder.name,
      parent: null,
      created: Math.floor(startedAt / 1000),
      maxModelLen: () => maxModelLen(folder),
      tokenizer: folder.tokenizer,
      parsers: modelParsers(folder.tokenizer?.template ?? null, config.parsers),
      eosIds: folder.spec.eosIds,
      generationDefaults: folder.generationDefaults,
      vocabSize: folder.spec.vocabSize,
      hiddenSize: folder.spec.hiddenSize,
      pooler: folder.pooler,
      backend: dispatcher.backend(folder.name, folder.spec.vocabSize),
    }),
  );
  for (const { name, parsers } of models) log.info({ model: name, ...parsers }, 'how its answers are read');
  const served = servedModels(
    models,
    () => loras.served(),
    (base, adapter) => dispatcher.backend(base.name, base.vocabSize, adapter),
  );
  const metrics = new HubMetrics({
    namespace: config.namespace,
    models: names,
    nodes,
    inflight: () => dispatcher.inflight,
    queued: () => dispatcher.queued,
  });
  const transfers = transferMetrics(metrics.registry, () => disaggregation.transfers.size);
  const bridge =
    config.dynamo &&
    (await startHubBridge(
      { ...config.dynamo, namespace: config.namespace },
      { config, folders, models, registry, index, clock, log, metrics: metrics.registry },
    ).catch(async (error: unknown) => {
      await publisher?.close();
      throw error;
    }));
  const api = createApi({
    models: served,
    maxBodyBytes: limits.maxBodyBytes,
    drawSeed,
    now: Date.now,
    after: (ms, task) => clock.after(ms, task),
    timeoutSeconds: config.requestTimeoutSeconds,
    storedResponses: STORE_BOUNDS,
    priorities: config.priorities,
    promptEmbeds: config.promptEmbeds,
    keepAliveSeconds: config.keepAliveSeconds,
    metrics: logRequests(metrics, log),
    internalError: (error) => log.error({ err: error }, 'a request failed inside the hub'),
  });

  const health = healthChecksOf(config, folders, {
    clock,
    log,
    sockets: () => registry.sockets(),
    busy() {
      const requests = dispatcher.perNode();
      return (socket) => requests.has(socket) || socket.busy;
    },
  });
  const open = new Set<NodeSocket>();
  const known = (node: string, token: string) => registry.isNode(node, token);
  const relay = new BulkRelay({ transfers: disaggregation.transfers, known, clock, limits, log });
  let ended = false;
  const full = (count: number) => {
    // Until the last stream has ended, one more node may be what it needs.
    if (ended) return 'The hub stops.';
    return count >= limits.maxNodes ? `The hub has ${limits.maxNodes} nodes, which is its limit.` : null;
  };
  const closing = new Closing(clock, {
    announce({ graceSeconds }) {
      log.info({ graceSeconds, inflight: dispatcher.inflight }, 'the hub stops');
      for (const socket of registry.sockets()) socket.send({ type: 'drain', reason: 'the hub stops', graceSeconds });
      // Its frontends route elsewhere from now on.
      void bridge?.leave();
    },
    drain: () => dispatcher.stop(),
    async end() {
      // First: it tells Dynamo to go on elsewhere with what is cut.
      await bridge?.close();
      dispatcher.failAll('The hub stopped before this request was done. Send it again.');
      ended = true;
      health?.stop();
      sleep.stop();
      history.stop();
      for (const node of open) node.end(CLOSE.goingAway, 'the hub stops');
      relay.end();
      await server.close();
      await side.close();
      await publisher?.close();
    },
  });
  const policy = new AccessPolicy(config);
  const status = {
    state,
    stopping: () => closing.begun,
    sleeping: () => sleep.isSleeping(null),
    metrics: metrics.registry,
    history: () => history.samples(),
  };
  const admin: AdminActions = {
    resetPrefixCaches: () => registry.resetPrefixCaches(),
    sleep: (order, node) => sleep.sleep(order, node),
    wake: (node) => sleep.wake(node),
    isSleeping: (node) => sleep.isSleeping(node),
  };
  const app = createApp({ config, policy, api, models: folders, status, admin, loras, log });
  const side = await startSideServers(config, policy, status).catch(async (error: unknown) => {
    await bridge?.close();
    await publisher?.close();
    throw error;
  });
  const load = () => loadSum(registry.sockets().flatMap((socket) => [...socket.loads.values()]));
  const history = new History({ metrics, load, clock, now: Date.now });
  const server = await startServer({
    config,
    policy,
    app,
    cluster: {
      maxMessageBytes: limits.maxMessageBytes,
      full: () => full(open.size),
      join(socket) {
        const node = new NodeSocket({
          wire: wireOf(socket),
          desk: registry,
          sink: health === null ? dispatcher : tee(health, dispatcher),
          transfers: disaggregation.transfers,
          index,
          clock,
          limits,
          log,
        });
        open.add(node);
        connect(socket, node);
        // After the node itself has heard of it: where it came back on another socket, that one speaks for it.
        socket.once('close', () => {
          open.delete(node);
          if (!registry.has(node.id)) relay.left(node.id);
        });
      },
    },
    bulk: {
      maxMessageBytes: MAX_BULK_MESSAGE_BYTES,
      full: () => full(relay.size),
      join: (socket) => connectBulk(socket, relay),
    },
  }).catch(async (error: unknown) => {
    history.stop();
    await side.close();
    await bridge?.close();
    await publisher?.close();
    throw error;
  });

  return {
    port: server.port,
    url: localUrl(config, server.port),
    models: names,
    embeddingModels: folders.flatMap(({ name, pooler }) => (pooler === null ? [] : [name])),
    sidePorts: { system: side.system, metrics: side.metrics },
    state,
    onNodeChange: (listener) => registry.onChange(listener),
    close: ({ graceSeconds = config.graceSeconds, drainSeconds = config.drainSeconds } = {}) =>
      closing.close({ graceSeconds, drainSeconds }),
  };
}

function drawSeed(): [number, number] {
  const bytes = randomBytes(8);
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
}

function localUrl({ host, tls }: HubConfig, port: number): string {
  const anywhere = host === '0.0.0.0' || host === '::';
  const name = anywhere ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return `${tls === null ? 'http' : 'https'}://${name}:${port}`;
}
