import { type Engine, EngineError, type EngineListener } from '../engine/api.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import { type KvEvent, snapshotParts } from '../protocol/kv-events.ts';
import type { Card, ErrorCode, HubMessage } from '../protocol/messages.ts';
import { cardOf } from './card.ts';
import { Link, type LinkListener, type LinkOptions, type Welcome } from './link.ts';
import type { NodePhase, NodeProblem } from './snapshot.ts';
import type { SnapshotFeed } from './snapshot-feed.ts';

/** What a node is told while its engine starts. */
export interface StartListener {
  /** Something new is going on, e.g. a file loads; bytes are of the whole model. */
  progress(stage: 'downloading' | 'warming', detail: string, loadedBytes: number, totalBytes: number): void;
  adapter(adapter: Card['adapter']): void;
}

/** What an engine is made for. */
export type EngineOffer = Pick<Welcome, 'model' | 'blockSize' | 'hashAlgo' | 'options'>;

/** Makes the engine for what the hub offers. Rejects with the reason; `signal` ends the start early. */
export type StartEngine = (
  offer: EngineOffer,
  listener: EngineListener & StartListener,
  signal: AbortSignal,
) => Promise<Engine>;

/** Frames and events of one message, as the protocol bounds it. */
const MAX_BATCH = 4096;
const LOAD_MS = 1000;
/** A change of load is told this much later, together with the changes beside it. */
const LOAD_SOON_MS = 100;
/** Progress of the download is told to the hub at most this often. */
const STAGE_MS = 500;

/** A node of a cluster: a link to the hub, and the engine that does what the hub asks. One life: join once, leave once. */
export class ClusterNode {
  private readonly link: Link;
  private readonly starting = new AbortController();
  /** Every request that runs on the engine: its attempt, and its choices that have not finished. */
  private readonly requests = new Map<string, { readonly attempt: number; openChoices: number }>();
  private engine: Engine | null = null;
  private offered: Welcome | null = null;
  private draining = false;
  private drained: (() => void) | null = null;
  private stage: 'joining' | 'downloading' | 'warming' = 'joining';
  private lastStageAt = Number.NEGATIVE_INFINITY;
  private stopLoadTimer: () => void = () => {};
  private loadSoon = false;

  constructor(
    private readonly options: LinkOptions & { readonly startEngine: StartEngine; readonly feed: SnapshotFeed },
  ) {
    this.link = new Link(options, this.linkListener());
  }

  join(): void {
    this.show('joining', 'opening the connection to the hub');
    this.link.start();
  }

  /**
   * Takes no new requests, gives the running ones `graceMs` to finish, then leaves and frees the GPU.
   * Resolves when all is closed.
   */
  async leave(graceMs: number): Promise<void> {
    if (this.link.state !== 'left') {
      this.startDraining('the node leaves');
      this.link.send({ type: 'drain', reason: 'the page leaves' });
      if (this.requests.size > 0) {
        await new Promise<void>((resolve) => {
          const stop = this.options.clock.after(graceMs, resolve);
          this.drained = () => {
            stop();
            resolve();
          };
        });
      }
      this.link.leave(null);
    }
    await this.closeEngine();
  }

  steps(): ReturnType<Engine['steps']> {
    return this.engine?.steps() ?? [];
  }

  private linkListener(): LinkListener {
    return {
      welcome: (message) => this.welcome(message),
      registered: () => {
        this.show('ready', '');
        this.sendSnapshot(0);
        this.tellLoad();
      },
      generate: (message) => this.generate(message.attempt, message.generate),
      cancel: (message) => this.cancelAttempt(message),
      snapshotRequested: (rank) => this.sendSnapshot(rank),
      drain: ({ reason }) => this.startDraining(reason),
      lost: (reason, retryMs) => {
        this.dropAll();
        this.draining = false;
        this.show('reconnecting', `${reason}; next try in ${(retryMs / 1000).toFixed(1)} s`);
      },
      left: (problem) => {
        this.dropAll();
        this.starting.abort();
        if (problem) this.end(problem);
        else if (!this.options.feed.current.problem) this.show('idle', '');
      },
    };
  }

  private welcome(welcome: Welcome): void {
    const before = this.offered;
    this.offered = welcome;
    this.options.feed.update({ node: welcome.node, model: welcome.model.name, problem: null });
    // Whatever ran was dropped with the connection; what the hub still waits for must go elsewhere.
    for (const { request, attempt } of welcome.live)
      this.link.sendFailed(request, attempt, 'engine', 'The attempt ended when the node lost its connection.');
    if (!before) {
      void this.start(welcome);
    } else if (differs(before, welcome)) {
      this.fail('model', 'The hub came back with another model or other block settings. Reload the page to load them.');
    } else if (this.engine) {
      this.link.register(cardOf(this.engine.info, welcome.hashAlgo));
    } else {
      this.lastStageAt = Number.NEGATIVE_INFINITY;
      this.show(this.stage, '');
    }
  }

  private async start(welcome: Welcome): Promise<void> {
    try {
      const engine = await this.options.startEngine(welcome, this.engineListener(), this.starting.signal);
      if (this.starting.signal.aborted) return await engine.close();
      this.engine = engine;
      const card = cardOf(engine.info, welcome.hashAlgo);
      this.options.feed.update({ card, adapter: card.adapter, progress: null });
      this.options.feed.follow(engine);
      this.link.register(card);
    } catch (error) {
      if (this.starting.signal.aborted) return;
      const code = error instanceof EngineError ? error.code : 'internal';
      this.fail(code, wordsOf(error));
    }
  }

  private engineListener(): EngineListener & StartListener {
    return {
      tokens: (frames) => this.tokens(frames),
      kvEvents: (events: KvEvent[]) => {
        for (const part of batches(events)) this.link.send({ type: 'kv_events', rank: 0, events: part });
      },
      failed: (request, error) => {
        const running = this.requests.get(request);
        if (!running) return;
        this.forget(request);
        this.link.sendFailed(request, running.attempt, messageCode(error), error.message);
      },
      lost: (error) => this.fail(error.code, error.message),
      adapter: (adapter) => {
        if (!this.starting.signal.aborted) this.options.feed.update({ adapter });
      },
      progress: (stage, detail, loadedBytes, totalBytes) => {
        if (this.starting.signal.aborted) return;
        const reconnecting = this.options.feed.current.phase === 'reconnecting';
        const shown = { detail, progress: { loadedBytes, totalBytes } };
        this.options.feed.update(reconnecting ? { progress: shown.progress } : { ...shown, phase: stage });
        const now = this.options.clock.now();
        if (this.stage === stage && now - this.lastStageAt < STAGE_MS) return;
        this.stage = stage;
        this.lastStageAt = now;
        this.link.send({ type: 'stage', stage, detail: detail.slice(0, 4096), loadedBytes, totalBytes });
      },
    };
  }

  private sendSnapshot(rank: number): void {
    if (!this.engine) return;
    for (const snapshot of snapshotParts(this.engine.snapshot(), this.engine.info.blockSize))
      this.link.send({ type: 'kv_snapshot', rank, snapshot });
  }

  private generate(attempt: number, request: GenerateRequest): void {
    const id = request.request;
    if (!this.engine || this.draining) {
      this.link.sendFailed(id, attempt, 'overloaded', 'This node is leaving and takes no new requests.');
      return;
    }
    if (this.requests.has(id)) this.drop(id);
    this.requests.set(id, { attempt, openChoices: request.choices.length });
    try {
      this.engine.add(request);
    } catch (error) {
      this.forget(id);
      this.link.sendFailed(id, attempt, messageCode(error), wordsOf(error));
      return;
    }
    this.tellLoadSoon();
  }

  private cancelAttempt({ request, attempt }: Extract<HubMessage, { type: 'cancel' }>): void {
    if (this.requests.get(request)?.attempt === attempt) this.drop(request);
  }

  private tokens(frames: readonly TokensFrame[]): void {
    const tagged = [];
    for (const frame of frames) {
      const running = this.requests.get(frame.request);
      if (running) tagged.push({ ...frame, attempt: running.attempt });
    }
    for (const part of batches(tagged)) this.link.sendTokens(part);
    for (const frame of tagged) {
      const running = this.requests.get(frame.request);
      if (frame.finish === undefined || !running) continue;
      running.openChoices--;
      if (running.openChoices === 0) this.forget(frame.request);
    }
  }

  private drop(request: string): void {
    this.engine?.cancel(request);
    this.forget(request);
  }

  private dropAll(): void {
    for (const request of [...this.requests.keys()]) this.drop(request);
  }

  private forget(request: string): void {
    this.requests.delete(request);
    this.tellLoadSoon();
    if (this.requests.size === 0) this.drained?.();
  }

  private startDraining(reason: string): void {
    this.draining = true;
    this.show('draining', reason);
  }

  private tellLoad(): void {
    this.stopLoadTimer();
    if (!this.engine || this.link.state !== 'registered') return;
    this.link.send({ type: 'load', load: this.engine.load() });
    this.stopLoadTimer = this.options.clock.after(LOAD_MS, () => this.tellLoad());
  }

  private tellLoadSoon(): void {
    if (this.loadSoon) return;
    this.loadSoon = true;
    this.options.clock.after(LOAD_SOON_MS, () => {
      this.loadSoon = false;
      this.tellLoad();
    });
  }

  /** The engine cannot serve (any more): tell the hub why, leave, and say it on the page. */
  private fail(code: string, message: string): void {
    if (this.link.state === 'left') return;
    this.end({ code, message });
    this.link.leave({ code: code === 'model' ? 'model' : 'engine', message });
  }

  private end(problem: NodeProblem): void {
    const served = this.engine !== null;
    this.options.feed.update({ phase: served ? 'gone' : 'refused', detail: '', progress: null, problem });
    void this.closeEngine();
  }

  private async closeEngine(): Promise<void> {
    const engine = this.engine;
    this.engine = null;
    this.stopLoadTimer();
    this.options.feed.follow(null);
    await engine?.close();
  }

  private show(phase: NodePhase, detail: string): void {
    this.options.feed.update({ phase, detail });
  }
}

function differs(a: Welcome, b: Welcome): boolean {
  return a.model.fingerprint !== b.model.fingerprint || a.blockSize !== b.blockSize || a.hashAlgo !== b.hashAlgo;
}

function messageCode(error: unknown): ErrorCode {
  if (!(error instanceof EngineError)) return 'engine';
  return error.code === 'invalid_request' || error.code === 'overloaded' ? error.code : 'engine';
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function* batches<T>(items: readonly T[]): Generator<T[]> {
  for (let i = 0; i < items.length; i += MAX_BATCH) yield items.slice(i, i + MAX_BATCH);
}
