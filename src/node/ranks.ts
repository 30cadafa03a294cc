import { type Engine, EngineError, type EngineInfo, type EngineListener, type SleepingGroup } from '../engine/api.ts';
import type { KvEvent } from '../protocol/kv-events.ts';
import type { Load, SleepLevel } from '../protocol/messages.ts';

/** What the engines of a node tell it. */
export interface RanksListener extends Omit<EngineListener, 'kvEvents'> {
  kvEvents(events: KvEvent[], rank: number): void;
}

/** What the engine of one rank is given to tell. */
export function listenerOf(listener: RanksListener, rank: number): EngineListener {
  return { ...listener, kvEvents: (events) => listener.kvEvents(events, rank) };
}

/** The engines of a node while they sleep. */
export interface SleepingRanks extends Omit<SleepingGroup, 'wake'> {
  wake(): Promise<Ranks>;
}

/** The engines of a node by data-parallel rank, from `first` on. They share adapter and weights, begin and end together. */
export class Ranks {
  constructor(
    readonly engines: readonly [Engine, ...Engine[]],
    readonly first = 0,
    private readonly fallAsleep: (level: SleepLevel) => Promise<SleepingRanks> = sleepless,
  ) {}

  /** Of each of them. */
  get info(): EngineInfo {
    return this.engines[0].info;
  }

  get size(): number {
    return this.engines.length;
  }

  /** null where the node has no such rank. */
  at(rank: number): Engine | null {
    return this.engines[rank - this.first] ?? null;
  }

  /** Lowest rank first. */
  numbers(): number[] {
    return this.engines.map((_, i) => this.first + i);
  }

  loads(): Load[] {
    return this.engines.map((engine, i) => ({ ...engine.load(), rank: this.first + i }));
  }

  /** Ends them, and frees all of the GPU but the device; see `EngineGroup`. */
  sleep(level: SleepLevel): Promise<SleepingRanks> {
    return this.fallAsleep(level);
  }

  /** Frees the GPU, whatever state the engines are in. */
  async close(): Promise<void> {
    await Promise.all(this.engines.map((engine) => engine.close()));
  }
}

async function sleepless(): Promise<never> {
  throw new EngineError('internal', 'These engines cannot sleep.');
}
