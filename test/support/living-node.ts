import { WebSocket } from 'ws';
import type { EngineListener } from '../../src/engine/api.ts';
import { ClusterNode } from '../../src/node/cluster-node.ts';
import type { LeaveTimes } from '../../src/node/departure.ts';
import { listenerOf, Ranks } from '../../src/node/ranks.ts';
import type { NodeSnapshot } from '../../src/node/snapshot.ts';
import { SnapshotFeed } from '../../src/node/snapshot-feed.ts';
import type { Connect } from '../../src/node/socket.ts';
import { systemClock } from '../../src/protocol/clock.ts';
import { closeReason } from '../../src/protocol/close-codes.ts';
import type { GenerateRequest } from '../../src/protocol/generate.ts';
import type { BlockHasher } from '../../src/protocol/hashes.ts';
import type { KvSnapshot } from '../../src/protocol/kv-events.ts';
import type { Gate } from './gate.ts';
import { transfersWith } from './open-transfers.ts';
import { PrefixCache } from './prefix-cache.ts';
import { ScriptedEngine } from './scripted-engine.ts';

export interface LivingNodeOptions {
  readonly hasher: BlockHasher;
  /** Milliseconds between two steps of the engine. */
  readonly tokenMs?: number;
  /** It computes nothing before this is open. */
  readonly gate?: Gate;
  readonly leaveTimes?: LeaveTimes;
}

/** A scripted engine that steps by itself and keeps a prefix cache, as its node's hub hears of it. */
export class LivingEngine extends ScriptedEngine {
  readonly #cache: PrefixCache;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(
    private readonly owner: EngineListener,
    offer: { fingerprint: string; blockSize: number },
    { hasher, tokenMs = 5, gate }: LivingNodeOptions,
  ) {
    super(owner, { fingerprint: offer.fingerprint, blockSize: offer.blockSize, maxModelLen: 2048, totalBlocks: 128 });
    this.#cache = new PrefixCache(hasher, offer.blockSize);
    this.#timer = setInterval(() => {
      if (gate?.isOpen ?? true) this.step();
    }, tokenMs);
  }

  override add(request: GenerateRequest): void {
    super.add(request);
    this.#cache.compute(request.prompt);
    this.owner.kvEvents(this.#cache.takeEvents());
  }

  override resetPrefixCache(): void {
    this.#cache.clear();
    this.owner.kvEvents(this.#cache.takeEvents());
  }

  override snapshot(): KvSnapshot {
    return this.#cache.snapshot();
  }

  override async close(): Promise<void> {
    clearInterval(this.#timer);
    await super.close();
  }
}

/** A whole node over a real WebSocket: link, life and leaving are the page's own; only the engine is scripted. */
export class LivingNode {
  readonly engines: LivingEngine[] = [];
  readonly node: ClusterNode;
  readonly #feed = new SnapshotFeed(systemClock, () => {});

  constructor(hubUrl: string, options: LivingNodeOptions) {
    this.node = new ClusterNode({
      connect: nodeConnect(hubUrl),
      clock: systemClock,
      random: Math.random,
      ticket: null,
      agent: 'living node',
      openLora: () => {
        throw new Error('no adapter is offered');
      },
      openTransfers: transfersWith(systemClock),
      room: null,
      query: '',
      feed: this.#feed,
      leaveTimes: () => options.leaveTimes ?? { graceMs: 5000, timeoutMs: 60_000 },
      startEngine: async ({ model, blockSize }, listener) =>
        this.#ranks(
          () => new LivingEngine(listenerOf(listener, 0), { fingerprint: model.fingerprint, blockSize }, options),
        ),
    });
    this.node.join();
  }

  /** What wakes up is another engine, with an empty cache. */
  #ranks(make: () => LivingEngine): Ranks {
    const engine = make();
    this.engines.push(engine);
    return new Ranks([engine], 0, async (level) => {
      await engine.close();
      return { keptBytes: level === 1 ? 1000 : 0, wake: async () => this.#ranks(make), close: async () => {} };
    });
  }

  get snapshot(): NodeSnapshot {
    return this.#feed.current;
  }

  get engine(): LivingEngine {
    const engine = this.engines.at(-1);
    if (engine === undefined) throw new Error('no engine was started');
    return engine;
  }

  async ready(): Promise<this> {
    while (this.snapshot.stage !== 'ready') {
      if (this.snapshot.problem) throw new Error(this.snapshot.problem.message);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return this;
  }
}

function nodeConnect(hubUrl: string): Connect {
  return (listener) => {
    const socket = new WebSocket(`${hubUrl.replace(/^http/, 'ws')}/cluster`, ['quire.v1']);
    socket.on('open', () => listener.opened());
    socket.on('message', (data) => listener.message(data.toString()));
    socket.on('close', (code, reason) => listener.closed(code, reason.toString()));
    socket.on('error', () => {});
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (text) => socket.send(text),
      close: (code, reason) => socket.close(code, closeReason(reason)),
    };
  };
}
