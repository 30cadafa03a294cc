import { type Happening, type HappeningTotals, MAX_HAPPENINGS } from '../protocol/cluster-state.ts';

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** A happening as its place tells it; the log adds number and time. */
export type NewHappening = Without<Happening, 'number' | 'at'>;

/** The last things of each kind that happened to requests, for people to see. */
export class HappeningLog {
  readonly #last = new Map<Happening['kind'], Happening[]>();
  readonly #totals: HappeningTotals = { transfers: 0, blocks: 0, bytes: 0, fallBacks: 0 };
  #count = 0;

  /** now: Unix milliseconds. */
  constructor(private readonly now: () => number) {}

  readonly add = (happening: NewHappening): void => {
    this.#count += 1;
    this.#total(happening);
    const last = this.#last.get(happening.kind) ?? [];
    last.push({ ...happening, number: this.#count, at: this.now() });
    if (last.length > MAX_HAPPENINGS) last.shift();
    this.#last.set(happening.kind, last);
  };

  /** Oldest first. */
  last(): Happening[] {
    return [...this.#last.values()].flat().sort((a, b) => a.number - b.number);
  }

  totals(): HappeningTotals {
    return { ...this.#totals };
  }

  #total(happening: NewHappening): void {
    if (happening.kind === 'fell_back') this.#totals.fallBacks += 1;
    if (happening.kind !== 'transferred') return;
    this.#totals.transfers += 1;
    this.#totals.blocks += happening.blocks;
    this.#totals.bytes += happening.bytes;
  }
}
