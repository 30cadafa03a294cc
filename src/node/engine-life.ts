import { EngineError, type EngineErrorCode } from '../engine/api.ts';
import { mib } from '../engine/gpu/allocate.ts';
import type { Clock } from '../protocol/clock.ts';
import type { SleepLevel } from '../protocol/messages.ts';
import { EngineMonitor } from './engine-monitor.ts';
import type { EngineOffer, StartEngine, StartListener } from './engine-offer.ts';
import type { Ranks, RanksListener, SleepingRanks } from './ranks.ts';
import type { NodeProblem } from './snapshot.ts';

/** What the life of a node's engines tells it, beside what they themselves tell. Nothing comes of engines that are out of service. */
export interface EngineLifeListener extends Omit<RanksListener, 'lost'>, StartListener {
  started(engines: Ranks): void;
  /** The GPU is free but for the device; `detail` says what became of the weights. */
  asleep(detail: string): void;
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
/** Copying the weights of a large model takes seconds. */
const LONGEST_FALL_MS = 120_000;

/** Failures to start that another try may mend: a GPU process that starts anew has no adapter for a moment. */
const PASSING: ReadonlySet<EngineErrorCode> = new Set(['no_adapter', 'device_lost', 'out_of_memory', 'internal']);

/** Starts a node's engines, watches over them, and starts all anew from the cached weights when one is lost or hangs. */
export class EngineLife {
  /** In service. */
  private engines: Ranks | null = null;
  /** Whoever has the GPU, in service or not. */
  private holder: { close(): Promise<void> } | null = null;
  private sleeping: SleepingRanks | null = null;
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

  /** What became of the weights; null unless the engines sleep. */
  get asleep(): string | null {
    return this.sleeping && sleepText(this.sleeping);
  }

  /** The engines are out of service at once; `listener.asleep` tells when they sleep. Nothing happens where there are none. */
  async sleep(level: SleepLevel): Promise<void> {
    const { engines } = this;
    if (engines === null) return;
    const { signal } = this.life;
    this.takeOut();
    this.stopPause = this.options.clock.after(LONGEST_FALL_MS, () =>
      this.lost(
        new EngineError('internal', `The engine hangs: it did not fall asleep in ${LONGEST_FALL_MS / 1000} s.`),
      ),
    );
    try {
      const sleeping = await fallAsleep(engines, level);
      if (signal.aborted) return await sleeping.close();
      this.stopPause();
      this.sleeping = sleeping;
      this.holder = sleeping;
      this.listener.asleep(sleepText(sleeping));
    } catch (error) {
      if (!signal.aborted) this.lost(engineError(error));
    }
  }

  /** Engines that sleep come back to service; where they cannot, they are started anew, as lost ones are. */
  async wake(): Promise<void> {
    const { sleeping } = this;
    if (sleeping === null) return;
    this.sleeping = null;
    const { signal } = this.life;
    this.listener.progress('warming', 'waking up: the weights come back, and are checked by the self-test', 0, 0);
    try {
      const engines = await sleeping.wake();
      if (signal.aborted) await engines.close();
      else this.serve(engines);
    } catch (error) {
      if (!signal.aborted) this.lost(engineError(error));
    }
  }

  /** Ends it all; resolves when the GPU is free. */
  async close(): Promise<void> {
    this.offer = null;
    await this.end()?.close();
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
    this.holder = engines;
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
    void this.end()
      ?.close()
      .catch(() => {});
    this.losses = [...this.losses.filter((at) => now - at < LOSSES_WITHIN_MS), now];
    if (this.losses.length >= MAX_LOSSES) {
      const rest = `It is the second loss within ${LOSSES_WITHIN_MS / 60_000} minutes, after which browsers refuse the GPU to a site for a while: this page tries no more. Close what else uses the GPU, wait some minutes, then reload the page.`;
      this.giveUp({ code: error.code, message: `${error.message} ${rest}` });
    } else {
      this.again(error.message);
    }
  }

  private notStarted(error: unknown): void {
    const code = error instanceof EngineError ? error.code : 'internal';
    const message = error instanceof Error ? error.message : String(error);
    if (this.losses.length === 0) {
      this.giveUp({ code, message });
    } else if (error instanceof EngineError && code === 'device_lost') {
      this.lost(error);
    } else if (error instanceof EngineError && PASSING.has(error.code) && ++this.failures < MAX_FAILURES) {
      this.again(message);
    } else {
      const tries = this.failures === MAX_FAILURES ? `, ${MAX_FAILURES} times in a row` : '';
      this.giveUp({ code, message: `The engine was lost and could not be started again${tries}: ${message}` });
    }
  }

  private again(why: string): void {
    const { offer, pauseMs } = this;
    if (offer === null) return;
    this.pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    this.stopPause = this.options.clock.after(pauseMs, () => void this.build(offer));
    this.listener.broken(why, pauseMs);
  }

  private giveUp(problem: NodeProblem): void {
    this.offer = null;
    this.end();
    this.listener.ended(problem);
  }

  private takeOut(): void {
    this.engines = null;
    this.stopPause();
    for (const monitor of this.monitors.splice(0)) monitor.stop();
  }

  /** Nothing of these engines is heard or used from now on; whoever has the GPU is the caller's to close. */
  private end(): { close(): Promise<void> } | null {
    const { holder } = this;
    this.takeOut();
    this.holder = null;
    this.sleeping = null;
    this.life.abort();
    return holder;
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

/** Where the page cannot hold the weights they are left where they came from; what is told then says so. */
async function fallAsleep(engines: Ranks, level: SleepLevel): Promise<SleepingRanks & { readonly note?: string }> {
  try {
    return await engines.sleep(level);
  } catch (error) {
    if (level === 2 || !(error instanceof EngineError) || error.code !== 'out_of_memory') throw error;
    return { ...(await engines.sleep(2)), note: error.message };
  }
}

function sleepText({ keptBytes, note }: SleepingRanks & { readonly note?: string }): string {
  if (note !== undefined) return `at level 2, though level 1 was asked for: ${note}`;
  return keptBytes > 0
    ? `at level 1: the page keeps the ${mib(keptBytes)} of its weights`
    : 'at level 2: the weights are loaded again when it wakes up';
}

function engineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error;
  return new EngineError('internal', error instanceof Error ? error.message : String(error), { cause: error });
}
