import { pino } from 'pino';
import type { Migration } from '../../src/frontend/routing.ts';
import { DEFAULT_LIMITS } from '../../src/hub/config.ts';
import { Disaggregation } from '../../src/hub/disagg/disaggregation.ts';
import { Dispatcher } from '../../src/hub/dispatcher.ts';
import type { MigrationType } from '../../src/hub/metrics.ts';
import { NodeSocket, type Welcome } from '../../src/hub/node-socket.ts';
import { KvIndex } from '../../src/hub/router/kv-index.ts';
import { Router } from '../../src/hub/router/router.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { type Card, encode, HubMessage, type NodeMessage } from '../../src/protocol/messages.ts';
import { FakeClock } from './fake-clock.ts';
import { SCRIPTED_INFO, ScriptedEngine } from './scripted-engine.ts';
import { DEFAULT_KNOBS } from './test-hub.ts';

type TokensMessage = Extract<NodeMessage, { type: 'tokens' }>;

const hasher = await createBlockHasher('xxh3');
const LOG = pino({ level: 'silent' });
const LIMITS = { ...DEFAULT_LIMITS, messagesPerSecond: 1e9, bytesPerSecond: 1e12, pingMs: 1e9 };
const { adapter, fingerprint, blockSize, totalBlocks, maxModelLen, maxNumSeqs, maxNumBatchedTokens } = SCRIPTED_INFO;

/** A node with a scripted engine, whose frames wait in `outbox` until the test brings them to the hub. */
export class SimulatedNode {
  readonly outbox: TokensMessage[] = [];
  readonly delivered: TokensMessage[] = [];
  readonly engine = new ScriptedEngine({
    tokens: (frames) => {
      const tagged = frames.map((frame) => ({ ...frame, attempt: this.#attempts.get(frame.request) ?? 0 }));
      this.outbox.push({ type: 'tokens', epoch: 1, frames: tagged });
    },
    kvEvents() {},
    prefilled() {},
    failed() {},
    lost() {},
  });
  readonly socket: NodeSocket;
  readonly #attempts = new Map<string, number>();

  constructor(
    readonly id: string,
    cluster: SimulatedCluster,
  ) {
    this.socket = new NodeSocket({
      wire: {
        bufferedAmount: 0,
        send: (text) => this.#receive(HubMessage.parse(JSON.parse(text))),
        close: () => {},
      },
      desk: {
        greet: () => welcome(id),
        accept: () => null,
        changed: () => cluster.dispatcher.nodesChanged(),
        loaded: () => {},
        left: () => cluster.dispatcher.nodesChanged(),
      },
      sink: cluster.dispatcher,
      transfers: cluster.disaggregation.transfers,
      index: cluster.index,
      clock: cluster.clock,
      limits: LIMITS,
      log: LOG,
    });
    this.send({ type: 'hello', versions: ['quire.v1'], agent: 'simulated' });
    this.register();
  }

  get alive(): boolean {
    return this.socket.state === 'ready';
  }

  register(): void {
    this.send({ type: 'register', card: CARD });
  }

  send(message: NodeMessage): void {
    this.socket.receive(encode(message));
  }

  /** Brings one waiting message to the hub, the oldest unless `at` says otherwise. */
  deliver(at = 0): void {
    const [message] = this.outbox.splice(at, 1);
    if (message === undefined) return;
    this.delivered.push(message);
    this.send(message);
  }

  #receive(message: HubMessage): void {
    if (message.type === 'generate') {
      const { request } = message.generate;
      this.engine.cancel(request);
      this.#attempts.set(request, message.attempt);
      this.engine.add(message.generate);
    }
    if (message.type === 'cancel' && this.#attempts.get(message.request) === message.attempt) {
      this.engine.cancel(message.request);
    }
  }
}

/** The hub's dispatcher and its nodes without sockets and without time: whatever happens is called by the test. */
export class SimulatedCluster {
  readonly clock = new FakeClock();
  readonly index = new KvIndex(hasher, blockSize);
  readonly router = new Router({
    config: { mode: 'least-loaded', knobs: DEFAULT_KNOBS },
    index: this.index,
    clock: this.clock,
    random: () => 0,
  });
  readonly nodes: SimulatedNode[] = [];
  readonly migrations: { type: MigrationType; migration: Migration }[] = [];
  readonly disaggregation = new Disaggregation({
    config: { transports: ['relay'], timeoutMs: 5000, minTokens: null },
    blockSize,
    clock: this.clock,
    openMs: 4000,
    maxMs: 300_000,
    hashes: (request) => this.index.hashes(request),
    newId: () => crypto.randomUUID(),
    prefillers: () => [],
    router: this.router,
    counters: { ended() {}, done() {} },
    happened() {},
  });
  readonly dispatcher: Dispatcher = new Dispatcher({
    asleep: () => false,
    left() {},
    nodes: {
      ready: () => this.nodes.filter((node) => node.alive).map(({ socket }) => socket),
      prefillers: () => [],
    },
    router: this.router,
    disaggregation: this.disaggregation,
    clock: this.clock,
    limits: LIMITS,
    migrationLimit: 1000,
    migrated: (_model, type, migration) => this.migrations.push({ type, migration }),
    happened() {},
    log: LOG,
  });

  join(): void {
    const node = new SimulatedNode(`node-${this.nodes.length}`, this);
    this.nodes.push(node);
    this.dispatcher.nodesChanged();
  }
}

const CARD: Card = {
  model: 'scripted',
  numericsId: 'scripted',
  role: 'agg',
  dpRank: 0,
  dpSize: 1,
  transports: [],
  localScope: null,
  hashAlgo: 'xxh3',
  kvCacheDtype: 'f32',
  ...{ adapter, fingerprint, blockSize, totalBlocks, maxModelLen, maxNumSeqs, maxNumBatchedTokens },
};

const welcome = (node: string): Welcome => ({
  type: 'welcome',
  version: 'quire.v1',
  node,
  resumeToken: 'x'.repeat(32),
  epoch: 1,
  model: { name: 'scripted', fingerprint, base: '/models/scripted/', files: [] },
  blockSize,
  hashAlgo: 'xxh3',
  options: {},
  live: [],
});
