import { EngineError, type EngineErrorCode } from '../engine/api.ts';
import type { Clock } from '../protocol/clock.ts';
import { EngineMonitor } from './engine-monitor.ts';
import type { EngineOffer, StartEngine, StartListener } from './engine-offer.ts';
import type { Ranks, RanksListener } from './ranks.ts';
import type { NodeProblem } from './snapshot.ts';

/** What the life of a node's engines tells it, beside what they themselves tell. Nothing comes of engines that are out of service. */
export interface EngineLifeListener extends Omit<RanksListener, 'lost'>, StartListener {
  started(engines: Ranks): void;
  /** The engines are out of service, for good; the next ones are started in `pauseMs`. */
  broken(why: string, pauseMs: number): void;
  /** There is no engine, and there will be none. */
  ended(problem: NodeProblem): void;
}

export interface EngineLifeOptions {
  readonly startEngine: StartEngine;
  readonly clock: Clock;
}

/** A browser refuses the GPU to a site for a while after the second loss (Chromium: for two minutes). */
const MAX_LOSSES = 2;
const LOSSES_WITHIN_MS = 120_000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** What ran so long does not die of its start: the next pause is the first one again. */
const STEADY_MS = 600_000;
/** Starts in a row that may fail after an engine was lost. */
const MAX_FAILURES = 5;

/** Failures to start that another try may mend: a GPU process that starts anew has no adapter for a moment. */
const PASSING: ReadonlySet<EngineErrorCode> = new Set(['no_adapter', 'device_lost', 'out_of_memory', 'internal']);

/** Starts a node's engines, watches over them, and starts all anew from the cached weights when one is lost or hangs. */
export class EngineLife {
  private engines: Ranks | null = null;
  private monitors: EngineMonitor[] = [];
  /** Ends the life of the engine that starts or runs; all that it says later is not heard. */
  private life = new AbortController();
  private offer: EngineOffer | null = null;
  private startedAt = 0;
  private losses: number[] = [];
  private failures = 0;
  private pauseMs = FIRST_PAUSE_MS;
  private stopPause: () => void = () => {};

  constructor(
    private readonly options: EngineLifeOptions,
    private readonly listener: EngineLifeListener,
  ) {}

  /** The engines in service. */
  get current(): Ranks | null {
    return this.engines;
  }

  /** Starts the first engine. */
  start(offer: EngineOffer): void {
    this.offer = offer;
    void this.build(offer);
  }

  /** Ends it all; resolves when the GPU is free. */
  async close(): Promise<void> {
    this.offer = null;
    await this.takeOut()?.close();
  }

  private async build(offer: EngineOffer): Promise<void> {
    this.life = new AbortController();
    const { signal } = this.life;
    try {
      const engines = await this.options.startEngine(offer, this.listenerOf(signal), signal);
      if (signal.aborted) await engines.close();
      else this.serve(engines);
    } catch (error) {
      if (!signal.aborted) this.notStarted(error);
    }
  }

  private serve(engines: Ranks): void {
    const { clock } = this.options;
    this.engines = engines;
    this.failures = 0;
    this.startedAt = clock.now();
    this.monitors = engines.engines.map(
      (engine) => new EngineMonitor({ engine, clock, broken: (error) => this.lost(error) }),
    );
    this.listener.started(engines);
  }

  private lost(error: EngineError): void {
    const now = this.options.clock.now();
    if (this.engines && now - this.startedAt >= STEADY_MS) this.pauseMs = FIRST_PAUSE_MS;
    // Closing one that hangs may take for ever, or fail: its device is gone in any case.
    void this.takeOut()
      ?.close()
      .catch(() => {});
    this.losses = [...this.losses.filter((at) => now - at < LOSSES_WITHIN_MS), now];
    if (this.losses.length >= MAX_LOSSES) {
      const rest = `It is the second loss within ${LOSSES_WITHIN_MS / 60_000} minutes, after which browsers refuse the GPU to a site for a while: this page tries no more. Close what else uses the GPU, wait some minutes, then reload the page.`;
      this.end({ code: error.code, message: `${error.message} ${rest}` });
    } else {
      this.again(error.message);
    }
  }

  private notStarted(error: unknown): void {
    const code = error instanceof EngineError ? error.code : 'internal';
    const message = error instanceof Error ? error.message : String(error);
    if (this.losses.length === 0) {
      this.end({ code, message });
    } else if (error instanceof EngineError && code === 'device_lost') {
      this.lost(error);
    } else if (error instanceof EngineError && PASSING.has(error.code) && ++this.failures < MAX_FAILURES) {
      this.again(message);
    } else {
      const tries = this.failures === MAX_FAILURES ? `, ${MAX_FAILURES} times in a row` : '';
      this.end({ code, message: `The engine was lost and could not be started again${tries}: ${message}` });
    }
  }

  private again(why: string): void {
    const { offer, pauseMs } = this;
    if (offer === null) return;
    this.pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    this.stopPause = this.options.clock.after(pauseMs, () => void this.build(offer));
    this.listener.broken(why, pauseMs);
  }

  private end(problem: NodeProblem): void {
    this.offer = null;
    this.takeOut();
    this.listener.ended(problem);
  }

  /** Nothing of these engines is heard or used from now on; they are the caller's to close. */
  private takeOut(): Ranks | null {
    const { engines } = this;
    this.engines = null;
    this.stopPause();
    for (const monitor of this.monitors.splice(0)) monitor.stop();
    this.life.abort();
    return engines;
  }

  private listenerOf(signal: AbortSignal): RanksListener & StartListener {
    const { listener } = this;
    const heard =
      <A extends unknown[]>(tell: (...args: A) => void) =>
      (...args: A): void => {
        if (!signal.aborted) tell(...args);
      };
    return {
      tokens: heard((frames) => listener.tokens(frames)),
      kvEvents: heard((events, rank) => listener.kvEvents(events, rank)),
      prefilled: heard((request, progress) => listener.prefilled(request, progress)),
      failed: heard((request, error) => listener.failed(request, error)),
      adapter: heard((adapter) => listener.adapter(adapter)),
      progress: heard((...step) => listener.progress(...step)),
      lost: heard((error) => this.lost(error)),
    };
  }
}
