import { readFileSync } from 'node:fs';
import path from 'node:path';
import { WebSocket } from 'ws';
import type { EngineListener } from '../../src/engine/api.ts';
import { StepLoop } from '../../src/engine/engine.ts';
import { fetchFiles } from '../../src/engine/files/http-files.ts';
import { BlockManager } from '../../src/engine/kv/block-manager.ts';
import { LoraAdapters } from '../../src/engine/lora/adapters.ts';
import { modelSpec } from '../../src/engine/model/config.ts';
import type { StepResult } from '../../src/engine/runner.ts';
import { Scheduler } from '../../src/engine/scheduler.ts';
import type { StepPlan } from '../../src/engine/step-plan.ts';
import { blockHasherOf } from '../../src/node/block-hasher.ts';
import { ClusterNode } from '../../src/node/cluster-node.ts';
import type { EngineOffer } from '../../src/node/engine-offer.ts';
import { listenerOf, Ranks } from '../../src/node/ranks.ts';
import { SnapshotFeed } from '../../src/node/snapshot-feed.ts';
import type { Connect } from '../../src/node/socket.ts';
import type { BulkConnect } from '../../src/node/transfer/bulk-link.ts';
import { RelayTransport } from '../../src/node/transfer/relay.ts';
import type { Clock } from '../../src/protocol/clock.ts';
import type { Role } from '../../src/protocol/messages.ts';
import { SimulatedCopies, simulatedBlockBytes } from '../unit/engine/simulated-copies.ts';
import { HIDDEN, SimulatedGpu } from '../unit/engine/simulated-gpu.ts';
import { FakeDevice } from './fake-device.ts';
import { transfersWith } from './open-transfers.ts';
import { SCRIPTED_INFO } from './scripted-engine.ts';
import { PICO } from './test-hub.ts';

export interface GpulessNodeOptions {
  readonly hubUrl: string;
  readonly clock: Clock;
  readonly totalBlocks?: number;
  readonly maxNumSeqs?: number;
  /** Milliseconds that a step takes. */
  readonly stepMs?: () => number;
  /** Roles other than `agg` relay KV over a bulk socket. */
  readonly role?: Role;
  /** LoRA adapters that it has room for; their buffers are those of a device that remembers. */
  readonly maxLoras?: number;
  /** What the relay brings, as the node gets it. */
  readonly relayed?: (message: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

const DEPTH = 3;
const PICO_SPEC = modelSpec(JSON.parse(readFileSync(path.join(PICO, 'config.json'), 'utf8')));
const MAX_NUM_BATCHED_TOKENS = 24;

/** Where in its life a request was when the node was told to cancel it. `transfer`: it waited for KV. `over`: it had ended by then. */
export type Phase = 'queued' | 'transfer' | 'prefill' | 'decode' | 'over';

/**
 * A node as a page has it but for the GPU, which is simulated: the real link over a real WebSocket, the real node, engine loop, scheduler
 * and block manager. It keeps count of what it was told to cancel, and throws when it computes any of that in a later step.
 */
export class GpulessNode {
  readonly cancelled: Record<Phase, number> = { queued: 0, transfer: 0, prefill: 0, decode: 0, over: 0 };
  /** What went wrong: steps of cancelled requests, problems of the node. */
  readonly faults: string[] = [];
  engine: StepLoop | null = null;
  /** Has the buffers of LoRA adapters. */
  readonly device = new FakeDevice();
  readonly #options: GpulessNodeOptions;
  readonly #feed: SnapshotFeed;
  readonly #node: ClusterNode;
  readonly #transports: RelayTransport[] = [];
  readonly #sockets = new Set<WebSocket>();
  /** Requests whose first token came. */
  readonly #decoding = new Set<string>();
  readonly #ended = new Set<string>();
  /** Requests whose reserved blocks were given up. */
  readonly #givenUp = new Set<string>();
  #steps = 0;

  constructor(options: GpulessNodeOptions) {
    this.#options = options;
    this.#feed = new SnapshotFeed(options.clock, ({ problem }) => {
      if (problem !== null) this.faults.push(problem.message);
    });
    const { clock, relayed = (message) => message } = options;
    if (options.role !== undefined && options.role !== 'agg') {
      const connect = bulkTo((path) => this.#open(path), relayed);
      this.#transports.push(new RelayTransport({ connect, clock, random: Math.random, late: () => {} }));
    }
    this.#node = new ClusterNode({
      connect: connectTo(() => this.#open('/cluster', ['quire.v1'])),
      clock: options.clock,
      random: Math.random,
      ticket: null,
      agent: 'node without a GPU',
      query: '',
      room: null,
      feed: this.#feed,
      openLora: (offer) => fetchFiles(offer, options.hubUrl),
      openTransfers: transfersWith(options.clock, options.role ?? 'agg', this.#transports),
      leaveTimes: () => ({ graceMs: 0, timeoutMs: 60_000 }),
      startEngine: (offer, listener) => this.#ranks(() => this.#start(offer, listenerOf(listener, 0))),
    });
    this.#node.join();
  }

  get stage(): string {
    return this.#feed.current.stage;
  }

  get id(): string {
    return this.#feed.current.node ?? '';
  }

  get steps(): number {
    return this.#steps;
  }

  /** As when its process is killed: its connections break, and nobody hears a word of it. */
  kill(): Promise<void> {
    for (const socket of this.#sockets) socket.terminate();
    return this.#node.leave('now');
  }

  /** `drain`: once it has nothing to do, a minute later at most. */
  leave(how: 'drain' | 'now' = 'now'): Promise<void> {
    return this.#node.leave(how);
  }

  #open(path: string, protocols: string[] = []): WebSocket {
    const socket = new WebSocket(`${this.#options.hubUrl.replace(/^http/, 'ws')}${path}`, protocols);
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }

  /** What wakes up is another engine, with an empty cache. */
  async #ranks(make: () => Promise<StepLoop>): Promise<Ranks> {
    const engine = await make();
    return new Ranks([engine], 0, async () => {
      await engine.close();
      return { keptBytes: 0, wake: () => this.#ranks(make), close: async () => {} };
    });
  }

  async #start(offer: EngineOffer, listener: EngineListener): Promise<StepLoop> {
    const { totalBlocks = 40, maxNumSeqs = 4 } = this.#options;
    const { blockSize, model } = offer;
    const info = {
      ...SCRIPTED_INFO,
      fingerprint: model.fingerprint,
      model: model.name,
      vocabSize: 1 << 20,
      pools: model.pooler !== undefined,
      hiddenSize: model.pooler === undefined ? HIDDEN : PICO_SPEC.hiddenSize,
      layerBlockBytes: simulatedBlockBytes(blockSize),
      ...{ blockSize, totalBlocks, maxNumSeqs, maxNumBatchedTokens: MAX_NUM_BATCHED_TOKENS },
    };
    const blocks = new BlockManager(totalBlocks, blockSize, await blockHasherOf(offer), { prefixCaching: true });
    const scheduler = new Scheduler({
      blockManager: blocks,
      maxNumSeqs,
      maxNumBatchedTokens: MAX_NUM_BATCHED_TOKENS,
      maxLogitRows: MAX_NUM_BATCHED_TOKENS,
      maxModelLen: info.maxModelLen,
      maxWaiting: 1000,
      maxDrafts: 0,
    });
    const gpu = new SimulatedGpu(totalBlocks, blockSize, info.hiddenSize);
    const loras = this.#loras();
    const engine = new StepLoop({
      info,
      scheduler,
      blocks,
      runner: { submit: async (plan) => this.#submit(plan, gpu), roundtrip: async () => {}, destroy() {} },
      copies: new SimulatedCopies(gpu, info),
      loras,
      grammars: null,
      listener: {
        ...listener,
        tokens: (frames) => {
          for (const { request } of frames) this.#decoding.add(request);
          listener.tokens(frames);
        },
      },
      stepsInFlight: DEPTH,
      now: () => performance.now(),
      release: () => loras?.destroy(),
    });
    const cancel = engine.cancel.bind(engine);
    engine.cancel = (request) => {
      const [waiting, running] = [scheduler.numWaiting, scheduler.numRunning];
      cancel(request);
      const stopped = running > scheduler.numRunning;
      const phase = stopped ? (this.#decoding.has(request) ? 'decode' : 'prefill') : 'queued';
      const before = this.#givenUp.has(request) ? 'transfer' : 'over';
      this.cancelled[stopped || waiting > scheduler.numWaiting ? phase : before] += 1;
      this.#ended.add(request);
    };
    const reserve = engine.reserve.bind(engine);
    engine.reserve = (request) => {
      const reserved = reserve(request);
      if (typeof reserved === 'string') return reserved;
      const abort = reserved.abort.bind(reserved);
      return Object.assign(reserved, {
        abort: () => {
          this.#givenUp.add(request.request);
          abort();
        },
      });
    };
    this.engine = engine;
    return engine;
  }

  #loras(): LoraAdapters | null {
    const { maxLoras = 0 } = this.#options;
    if (maxLoras === 0) return null;
    return new LoraAdapters(this.device.asDevice(), PICO_SPEC, { adapters: maxLoras, rank: 8 });
  }

  #submit(plan: StepPlan, gpu: SimulatedGpu) {
    this.#steps += 1;
    for (const { sequence } of plan.rows) {
      if (this.#ended.has(sequence.request)) this.faults.push(`${sequence.request} is computed after its end`);
    }
    const samples = Uint32Array.from(gpu.run(plan));
    const vectors = gpu.pooled;
    const pooled = (i: number) => vectors[i]!;
    const logprob = (_row: number, token: number) => ({ token, logprob: -1, rank: 1, top: [] });
    const result = new Promise<StepResult>((resolve) =>
      setTimeout(() => resolve({ samples, pooled, logprob }), this.#options.stepMs?.() ?? 0),
    );
    return { result, submits: 1, dispatches: 1, bytes: 0 };
  }
}

function bulkTo(open: (path: string) => WebSocket, relayed: NonNullable<GpulessNodeOptions['relayed']>): BulkConnect {
  return (listener) => {
    const socket = open('/cluster/bulk');
    socket.on('open', () => listener.opened());
    socket.on('message', (data: Buffer) => listener.message(relayed(new Uint8Array(data))));
    socket.on('close', (code, reason) => listener.closed(code, reason.toString()));
    socket.on('error', () => {});
    return socket;
  };
}

function connectTo(open: () => WebSocket): Connect {
  return (listener) => {
    const socket = open();
    socket.on('open', () => listener.opened());
    socket.on('message', (data) => listener.message(data.toString()));
    socket.on('error', () => {});
    socket.on('close', (code, reason) => listener.closed(code, reason.toString()));
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (text) => socket.send(text),
      close: (code, reason) => socket.close(code, reason),
    };
  };
}
