import type { Option } from './option.ts';
import { engineOptions } from './options-engine.ts';
import { quireOptions } from './options-quire.ts';
import { runtimeOptions } from './options-runtime.ts';

/** THE table: command line, environment, page query, `--help` and docs/options.md all come from it. */
export const OPTIONS = { ...runtimeOptions, ...quireOptions, ...engineOptions };

export type OptionName = keyof typeof OPTIONS;

type ValueOf<O> = O extends Option<infer T> ? T : never;
type NameAt<W> = { [K in OptionName]: (typeof OPTIONS)[K]['where'] extends W ? K : never }[OptionName];

/** Value of every option that the hub reads, by flag name: `options['http-port']`. */
export type Options = { readonly [K in NameAt<'hub' | 'both'>]: ValueOf<(typeof OPTIONS)[K]> };

/** Value of every option that a node reads, by flag name: `options['max-num-seqs']`. */
export type PageOptions = { readonly [K in NameAt<'page' | 'both'>]: ValueOf<(typeof OPTIONS)[K]> };
