import { type Happening, MAX_HAPPENINGS } from '../protocol/cluster-state.ts';

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
/** A happening as its place tells it; the log adds number and time. */
export type NewHappening = Without<Happening, 'number' | 'at'>;

/** The last things that happened to requests, for people to see. */
export class HappeningLog {
  readonly #last: Happening[] = [];
  #count = 0;

  /** now: Unix milliseconds. */
  constructor(private readonly now: () => number) {}

  readonly add = (happening: NewHappening): void => {
    this.#count += 1;
    this.#last.push({ ...happening, number: this.#count, at: this.now() });
    if (this.#last.length > MAX_HAPPENINGS) this.#last.shift();
  };

  /** Oldest first. */
  last(): Happening[] {
    return [...this.#last];
  }
}
