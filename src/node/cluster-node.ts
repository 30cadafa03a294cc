import { tellsKvEvents } from '../config/kv-events-config.ts';
import { pageOptions } from '../config/options.ts';
import { type Engine, EngineError, type EngineListener } from '../engine/api.ts';
import { type KvEvent, snapshotParts } from '../protocol/kv-events.ts';
import { Attempts } from './attempts.ts';
import { batches } from './batches.ts';
import { cardOf } from './card.ts';
import type { StartEngine, StartListener } from './engine-offer.ts';
import { Link, type LinkListener, type LinkOptions, type Welcome } from './link.ts';
import { LoadReport } from './load-report.ts';
import type { NodePhase, NodeProblem } from './snapshot.ts';
import type { SnapshotFeed } from './snapshot-feed.ts';
import type { OpenTransfers } from './transfer/open-transfers.ts';
import type { Transfers } from './transfer/transfers.ts';

/** Progress of the download is told to the hub at most this often. */
const STAGE_MS = 500;

/** A node of a cluster: a link to the hub, and the engine that does what the hub asks. One life: join once, leave once. */
export class ClusterNode {
  private readonly link: Link;
  private readonly starting = new AbortController();
  private readonly attempts: Attempts;
  private readonly load: LoadReport;
  private engine: Engine | null = null;
  /** From the first welcome to the end. */
  private transfers: Transfers | null = null;
  private offered: Welcome | null = null;
  /** Somebody wants to hear of the prefix cache. */
  private tellsKv = true;
  private draining = false;
  private drained: (() => void) | null = null;
  private stage: 'joining' | 'downloading' | 'warming' = 'joining';
  private lastStageAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly options: LinkOptions & {
      readonly startEngine: StartEngine;
      readonly openTransfers: OpenTransfers;
      readonly feed: SnapshotFeed;
    },
  ) {
    this.link = new Link(options, this.linkListener());
    this.load = new LoadReport(this.link, options.clock);
    this.attempts = new Attempts(this.link, () => this.changed());
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
      if (this.isBusy()) {
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
        this.load.now();
      },
      generate: ({ attempt, generate, prefill }) => this.attempts.generate(attempt, generate, this.closedBy(), prefill),
      transfer: (message) => this.transfers?.told(message, this.closedBy()),
      cancel: (message) => this.attempts.cancel(message),
      snapshotRequested: (rank) => this.sendSnapshot(rank),
      drain: ({ reason }) => this.startDraining(reason),
      lost: (reason, retryMs) => {
        this.attempts.dropAll();
        this.transfers?.dropAll('This node lost its connection to the hub.');
        this.draining = false;
        this.show('reconnecting', `${reason}; next try in ${(retryMs / 1000).toFixed(1)} s`);
      },
      left: (problem) => {
        this.attempts.dropAll();
        this.transfers?.close();
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
    this.transfers?.transports.attach(welcome);
    if (!before) {
      void this.start(welcome);
    } else if (differs(before, welcome)) {
      this.fail('model', 'The hub came back with another model or other block settings. Reload the page to load them.');
    } else if (this.engine && this.transfers) {
      this.link.register(cardOf(this.engine.info, welcome.hashAlgo, this.transfers.transports));
    } else {
      this.lastStageAt = Number.NEGATIVE_INFINITY;
      this.show(this.stage, '');
    }
  }

  private async start(welcome: Welcome): Promise<void> {
    try {
      const asked = pageOptions(new URLSearchParams(this.options.query), welcome.options);
      this.tellsKv = tellsKvEvents(asked['kv-events-config']);
      const transfers = await this.options.openTransfers(welcome, this.link, () => this.changed());
      if (this.starting.signal.aborted) return transfers.close();
      this.transfers = transfers;
      transfers.transports.attach(this.offered ?? welcome);
      const engine = await this.options.startEngine(welcome, this.engineListener(), this.starting.signal);
      if (this.starting.signal.aborted) return await engine.close();
      this.use(engine);
      const card = cardOf(engine.info, welcome.hashAlgo, transfers.transports);
      this.options.feed.update({ card, adapter: card.adapter, progress: null });
      this.link.register(card);
    } catch (error) {
      if (this.starting.signal.aborted) return;
      const code = error instanceof EngineError ? error.code : 'internal';
      this.fail(code, wordsOf(error));
    }
  }

  private engineListener(): EngineListener & StartListener {
    return {
      tokens: (frames) => this.attempts.tokens(frames),
      kvEvents: (events: KvEvent[]) => {
        if (!this.tellsKv) return;
        for (const part of batches(events)) this.link.send({ type: 'kv_events', rank: 0, events: part });
      },
      prefilled: (request, progress) => this.transfers?.prefilled(request, progress),
      failed: (request, error) => {
        if (!this.transfers?.failed(request, error)) this.attempts.failed(request, error);
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
    if (!this.engine || !this.tellsKv) return;
    for (const snapshot of snapshotParts(this.engine.snapshot(), this.engine.info.blockSize))
      this.link.send({ type: 'kv_snapshot', rank, snapshot });
  }

  /** A request or a transfer came or went. */
  private changed(): void {
    this.load.soon();
    if (!this.isBusy()) this.drained?.();
  }

  private isBusy(): boolean {
    return this.attempts.size > 0 || (this.transfers?.size ?? 0) > 0;
  }

  /** Why nothing new is taken; null while it is. */
  private closedBy(): string | null {
    return this.draining ? 'This node is leaving and takes no new requests.' : null;
  }

  private startDraining(reason: string): void {
    this.draining = true;
    this.show('draining', reason);
  }

  private use(engine: Engine | null): void {
    this.engine = engine;
    this.transfers?.use(engine);
    this.attempts.use(engine, this.transfers);
    this.load.use(engine);
    this.options.feed.follow(engine);
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
    this.use(null);
    await engine?.close();
  }

  private show(phase: NodePhase, detail: string): void {
    this.options.feed.update({ phase, detail });
  }
}

function differs(a: Welcome, b: Welcome): boolean {
  return a.model.fingerprint !== b.model.fingerprint || a.blockSize !== b.blockSize || a.hashAlgo !== b.hashAlgo;
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
