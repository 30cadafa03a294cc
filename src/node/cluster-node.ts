import { tellsKvEvents } from '../config/kv-events-config.ts';
import { pageOptions } from '../config/options.ts';
import { EngineError, type StepRecord } from '../engine/api.ts';
import { snapshotParts } from '../protocol/kv-events.ts';
import { Attempts } from './attempts.ts';
import { batches } from './batches.ts';
import { hashSeedOf } from './block-hasher.ts';
import { cardOf } from './card.ts';
import { Departure, type LeaveTimes } from './departure.ts';
import { EngineLife, type EngineLifeListener } from './engine-life.ts';
import type { StartEngine } from './engine-offer.ts';
import { type HubMessageOf, Link, type LinkListener, type LinkOptions, type Welcome } from './link.ts';
import { LoadReport } from './load-report.ts';
import { LoraKeeper, type OpenLora } from './lora-keeper.ts';
import { PrefillCanary } from './prefill-canary.ts';
import type { Ranks } from './ranks.ts';
import type { NodeProblem, PageStage } from './snapshot.ts';
import type { SnapshotFeed } from './snapshot-feed.ts';
import type { OpenTransfers } from './transfer/open-transfers.ts';
import { roleRefusals } from './transfer/plan.ts';
import type { Transfers } from './transfer/transfers.ts';

/** Progress of the download is told to the hub at most this often. */
const STAGE_MS = 500;

export interface ClusterNodeOptions extends LinkOptions {
  readonly startEngine: StartEngine;
  readonly openTransfers: OpenTransfers;
  readonly openLora: OpenLora;
  readonly feed: SnapshotFeed;
  /** How long a departure may take, from the options that the hub offers. */
  readonly leaveTimes: (offered: Welcome['options']) => LeaveTimes;
}

/** A node of a cluster: a link to the hub, and the engines that do what the hub asks. One life: join once, leave once. */
export class ClusterNode {
  private readonly link: Link;
  private readonly life: EngineLife;
  private readonly attempts: Attempts;
  private readonly load: LoadReport;
  private readonly canary: PrefillCanary;
  private readonly loras: LoraKeeper;
  /** From the first welcome to the end. */
  private transfers: Transfers | null = null;
  private offered: Welcome | null = null;
  /** Somebody wants to hear of the prefix cache. */
  private tellsKv = true;
  private departure: Departure | null = null;
  private leaving: Promise<void> | null = null;
  private served = false;
  private stage: 'joining' | 'downloading' | 'warming' | 'asleep' = 'joining';
  private lastStageAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: ClusterNodeOptions) {
    this.link = new Link(options, this.linkListener());
    this.life = new EngineLife(options, this.lifeListener());
    this.load = new LoadReport(this.link, options.clock);
    this.canary = new PrefillCanary(this.link);
    this.loras = new LoraKeeper(this.link, options.openLora);
    this.attempts = new Attempts(this.link, () => this.changed());
  }

  join(): void {
    this.show('joining', 'opening the connection to the hub');
    this.link.start();
  }

  /**
   * Leaves the hub and frees the GPU; resolves when all is closed. `drain`: the node gets no new requests, and waits for those it has.
   * `now`, also while it drains: what runs goes on on other nodes.
   */
  leave(how: 'drain' | 'now'): Promise<void> {
    if (how === 'now') this.departure?.cut();
    this.leaving ??= this.depart(how);
    return this.leaving;
  }

  /** Of its first rank. */
  steps(): StepRecord[] {
    return this.life.current?.engines[0].steps() ?? [];
  }

  private async depart(how: 'drain' | 'now'): Promise<void> {
    const { clock, leaveTimes } = this.options;
    if (how === 'drain' && this.link.state === 'registered') {
      this.show('draining', 'the node leaves');
      this.departure = new Departure(clock, leaveTimes(this.offered?.options ?? {}), () => this.busy());
      this.link.send({ type: 'drain', reason: 'the page leaves' });
      await this.departure.over;
    }
    this.link.leave(null);
    await this.close();
  }

  private linkListener(): LinkListener {
    return {
      welcome: (message) => this.welcome(message),
      registered: () => {
        this.show('ready', '');
        for (const rank of this.life.current?.numbers() ?? []) this.sendSnapshot(rank);
        this.load.now();
      },
      generate: (message) => {
        if (this.transfers?.transports.role === 'prefill') this.probe(message);
        else this.attempts.generate(message, this.closedBy());
      },
      transfer: (message) => this.transfers?.told(message, this.closedBy()),
      cancel: (message) => {
        this.attempts.cancel(message);
        this.canary.cancel(message.request);
      },
      snapshotRequested: (rank) => this.sendSnapshot(rank),
      loras: (message) => this.loras.want(message),
      resetPrefixCache: () => {
        for (const engine of this.life.current?.engines ?? []) engine.resetPrefixCache();
      },
      sleep: (level) => {
        // Engines that are on their way register when they are there, and the hub asks again (rule S4).
        if (!this.life.current) return;
        this.attempts.dropAll();
        this.use(null);
        this.show('asleep', 'freeing the GPU');
        void this.life.sleep(level);
      },
      wake: () => void this.life.wake(),
      unregistered: () => this.departure?.closed(),
      // Work goes on until the hub closes: it alone gives any, and it has streams to end.
      drain: ({ reason }) => this.show('draining', reason),
      lost: (reason, retryMs) => {
        this.attempts.dropAll();
        this.canary.clear();
        this.transfers?.dropAll('This node lost its connection to the hub.');
        // Whoever leaves has nothing to come back for.
        if (this.departure) this.departure.cut();
        else this.show('reconnecting', `${reason}; next try in ${(retryMs / 1000).toFixed(1)} s`);
      },
      left: (problem) => {
        this.attempts.dropAll();
        this.transfers?.close();
        this.departure?.cut();
        if (problem) this.end(problem);
        else if (!this.options.feed.current.problem) this.show('idle', '');
      },
    };
  }

  private welcome(welcome: Welcome): void {
    const before = this.offered;
    this.offered = welcome;
    const refusals = roleRefusals(this.options.query, welcome.options);
    this.options.feed.update({ node: welcome.node, model: welcome.model.name, roleRefusals: refusals, problem: null });
    // Whatever ran was dropped with the connection; what the hub still waits for must go elsewhere.
    for (const { request, attempt } of welcome.live)
      this.link.sendFailed(request, attempt, 'engine', 'The attempt ended when the node lost its connection.');
    this.transfers?.transports.attach(welcome);
    if (!before) {
      void this.begin(welcome);
    } else if (differs(before, welcome)) {
      const message = 'The hub came back with another model or other block settings. Reload the page to load them.';
      this.fail({ code: 'model', message });
    } else if (this.life.asleep !== null) {
      this.tellAsleep(this.life.asleep);
    } else if (!this.register()) {
      this.lastStageAt = Number.NEGATIVE_INFINITY;
      this.show(this.stage, '');
    }
  }

  private async begin(welcome: Welcome): Promise<void> {
    try {
      const asked = pageOptions(new URLSearchParams(this.options.query), welcome.options);
      this.tellsKv = tellsKvEvents(asked['kv-events-config']);
      const transfers = await this.options.openTransfers(welcome, this.link, () => this.changed());
      if (this.link.state === 'left') return transfers.close();
      this.transfers = transfers;
      transfers.transports.attach(this.offered ?? welcome);
      this.life.start(welcome);
    } catch (error) {
      const code = error instanceof EngineError ? error.code : 'internal';
      this.fail({ code, message: error instanceof Error ? error.message : String(error) });
    }
  }

  /** A prefill node is asked to generate by a health check alone. */
  private probe({ attempt, rank, generate }: HubMessageOf<'generate'>): void {
    const engine = this.closedBy() === null ? this.life.current?.at(rank) : null;
    this.canary.start(engine ?? null, attempt, generate);
  }

  /** Tells the hub what the engines in service can do; false where there are none. */
  private register(): boolean {
    const { life, transfers, offered } = this;
    if (!life.current || !transfers || !offered) return false;
    const card = cardOf(life.current, offered.hashAlgo, transfers.transports);
    this.options.feed.update({ card, adapter: card.adapter, progress: null });
    this.link.register(card);
    return true;
  }

  private lifeListener(): EngineLifeListener {
    const { feed } = this.options;
    return {
      tokens: (frames) => this.attempts.tokens(frames),
      kvEvents: (events, rank) => {
        if (!this.tellsKv) return;
        for (const part of batches(events)) this.link.send({ type: 'kv_events', rank, events: part });
      },
      prefilled: (request, progress) => {
        if (!this.canary.prefilled(request, progress)) this.transfers?.prefilled(request, progress);
      },
      failed: (request, error) => {
        if (this.canary.failed(request, error)) return;
        if (!this.transfers?.failed(request, error)) this.attempts.failed(request, error);
      },
      adapter: (adapter) => feed.update({ adapter }),
      progress: (stage, detail, loadedBytes, totalBytes) => this.progress(stage, detail, { loadedBytes, totalBytes }),
      started: (engines) => {
        this.served = true;
        this.use(engines);
        this.register();
      },
      asleep: (detail) => this.tellAsleep(detail),
      broken: (why, pauseMs) => {
        this.use(null);
        this.departure?.cut();
        const detail = `${why} It is started again in ${pauseMs / 1000} s.`;
        this.stage = 'warming';
        this.link.unregister({ stage: 'warming', detail });
        if (feed.current.stage !== 'reconnecting') this.show('warming', detail);
      },
      ended: (problem) => this.fail(problem),
    };
  }

  private tellAsleep(detail: string): void {
    this.stage = 'asleep';
    this.link.unregister({ stage: 'asleep', detail });
    if (this.link.state !== 'reconnecting') this.show('asleep', detail);
  }

  private progress(
    stage: 'downloading' | 'warming',
    detail: string,
    progress: { loadedBytes: number; totalBytes: number },
  ): void {
    const { feed, clock } = this.options;
    const reconnecting = feed.current.stage === 'reconnecting';
    feed.update(reconnecting ? { progress } : { detail, progress, stage });
    const now = clock.now();
    if (this.stage === stage && now - this.lastStageAt < STAGE_MS) return;
    this.stage = stage;
    this.lastStageAt = now;
    this.link.send({ type: 'stage', stage, detail: detail.slice(0, 4096), ...progress });
  }

  private sendSnapshot(rank: number): void {
    const engine = this.life.current?.at(rank);
    if (!engine || !this.tellsKv) return;
    for (const snapshot of snapshotParts(engine.snapshot(), engine.info.blockSize))
      this.link.send({ type: 'kv_snapshot', rank, snapshot });
  }

  /** A request or a transfer came or went. */
  private changed(): void {
    this.load.soon();
    this.options.feed.update({ handedOver: this.transfers?.handedOver ?? null });
    this.departure?.ended();
  }

  private busy(): boolean {
    return this.attempts.size > 0 || (this.transfers?.size ?? 0) > 0;
  }

  /** Why nothing new is taken; null while it is. */
  private closedBy(): string | null {
    return (this.departure?.accepting ?? true) ? null : 'This node is leaving and takes no new requests.';
  }

  /** The engine cannot serve (any more): tell the hub why, leave, and say it on the page. */
  private fail({ code, message }: NodeProblem): void {
    if (this.link.state === 'left') return;
    this.end({ code, message });
    this.link.leave({ code: code === 'model' ? 'model' : 'engine', message });
  }

  private end(problem: NodeProblem): void {
    this.options.feed.update({ stage: this.served ? 'gone' : 'refused', detail: '', progress: null, problem });
    void this.close();
  }

  private async close(): Promise<void> {
    this.use(null);
    await this.life.close();
  }

  private use(engines: Ranks | null): void {
    if (engines === null) this.canary.clear();
    this.transfers?.use(engines);
    this.attempts.use(engines, this.transfers);
    this.load.use(engines);
    this.loras.use(engines);
    this.options.feed.follow(engines);
  }

  private show(stage: PageStage, detail: string): void {
    this.options.feed.update({ stage, detail });
  }
}

function differs(a: Welcome, b: Welcome): boolean {
  const hashing = a.hashAlgo !== b.hashAlgo || hashSeedOf(a) !== hashSeedOf(b);
  const pooling = (a.model.pooler === undefined) !== (b.model.pooler === undefined);
  return a.model.fingerprint !== b.model.fingerprint || pooling || a.blockSize !== b.blockSize || hashing;
}
