import type { Kind } from './kinds.ts';

/** Sections of `--help`, as vLLM's and Dynamo's users know them. */
export type Group = 'Runtime' | 'Quire' | 'Engine';

/** Where an option is being read: on the command line of the hub, or in a page's query. */
export type Place = 'hub' | 'page';

/** One row of the options table. Its key in the table is the flag's name without dashes. */
export interface Option<T> {
  readonly group: Group;
  readonly kind: Kind<T>;
  readonly default: NoInfer<T>;
  /** The default in words, where the value alone does not say it. */
  readonly defaultText?: string;
  /** Environment variable, read on the hub only. */
  readonly env?: string;
  readonly alias?: string;
  readonly where: Place | 'both';
  readonly help: string;
  /** Values that cannot be had (yet), and why; asked only of values that somebody set. */
  readonly refused?: Refused<NoInfer<T>>;
}

export interface Refused<T> {
  /** Whole sentence without its full stop: `not yet: ...`, or why a browser cannot. */
  readonly reason: string;
  when(value: T, place: Place): boolean;
}

/** Keeps the types of a row's value and place while the table is written down. */
export const option = <T, const W extends Place | 'both'>(row: Option<T> & { where: W }): Option<T> & { where: W } =>
  row;

/** Refuses every value but those that work today. */
export const only = <T>(working: readonly T[], reason: string): Refused<T> => ({
  reason: `not yet: ${reason}`,
  when: (value) => !working.includes(value),
});

/** A flag, variable or query key that cannot be obeyed. The message is one line for the person who wrote it; the exit code is 2. */
export class OptionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'OptionError';
  }
}
