import { type Engine, EngineError } from '../engine/api.ts';
import type { Clock } from '../protocol/clock.ts';

const TICK_MS = 2000;
/** Ticks without an answer and without a step computed that make an engine hang: 10 seconds. */
const MAX_SILENT_TICKS = 5;

export interface MonitorOptions {
  readonly engine: Pick<Engine, 'heartbeat' | 'load'>;
  readonly clock: Clock;
  /** Called once: the engine hangs, or says itself that it is lost. */
  readonly broken: (error: EngineError) => void;
}

/** Asks an engine every two seconds for a heartbeat, which only a working loop and GPU queue can give. */
export class EngineMonitor {
  private waiting = false;
  private silentTicks = 0;
  private steps = 0;
  private stopTimer: () => void = () => {};
  private stopped = false;

  constructor(private readonly options: MonitorOptions) {
    this.tick();
  }

  stop(): void {
    this.stopped = true;
    this.stopTimer();
  }

  /** Counts ticks, not time: a machine that slept long has no hung engine. */
  private tick(): void {
    this.stopTimer = this.options.clock.after(TICK_MS, () => {
      if (this.waiting) this.silent();
      else this.ask();
      if (!this.stopped) this.tick();
    });
  }

  private ask(): void {
    this.waiting = true;
    this.silentTicks = 0;
    this.steps = this.computed();
    this.options.engine.heartbeat().then(
      () => {
        this.waiting = false;
      },
      (error: unknown) => this.end(error instanceof EngineError ? error : lost(error)),
    );
  }

  /** An engine whose steps come, however slowly, works. */
  private silent(): void {
    const steps = this.computed();
    this.silentTicks = steps === this.steps ? this.silentTicks + 1 : 0;
    this.steps = steps;
    if (this.silentTicks < MAX_SILENT_TICKS) return;
    const seconds = (MAX_SILENT_TICKS * TICK_MS) / 1000;
    this.end(new EngineError('internal', `The engine hangs: its GPU answered nothing for ${seconds} seconds.`));
  }

  private computed(): number {
    return this.options.engine.load().counters.steps;
  }

  private end(error: EngineError): void {
    if (this.stopped) return;
    this.stop();
    this.options.broken(error);
  }
}

function lost(cause: unknown): EngineError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new EngineError('device_lost', `The engine gives no heartbeat: ${why}`, { cause });
}
