import type { Role } from '../protocol/messages.ts';
import { dataParallel } from './data-parallel.ts';
import { bridgeOptions, unusedOfBridge } from './dynamo.ts';
import { checkHeadless } from './headless.ts';
import { roleClash } from './kv-transfer.ts';
import { nearest } from './nearest.ts';
import { type Option, OptionError, type Place } from './option.ts';
import { OPTIONS, type OptionName, type Options, type PageOptions } from './table.ts';

/** What somebody set: the texts, and where they stood, for messages. */
interface Given {
  readonly texts: readonly string[];
  readonly source: string;
}

export interface Parsed {
  readonly options: Options;
  /** What flags and environment set, by flag name. */
  readonly given: ReadonlyMap<OptionName, Given>;
  /** Lines to say at start: variables that are set and that nothing here reads. */
  readonly notices: readonly string[];
}

const NAMES = Object.keys(OPTIONS) as OptionName[];
const ROWS: ReadonlyMap<OptionName, Option<unknown>> = new Map(
  Object.entries(OPTIONS) as unknown as [OptionName, Option<unknown>][],
);
/** Longest name that is worth a comparison with every known one. */
const MAX_NAME = 100;

/**
 * Options of the hub from its command line and environment; flags win.
 * Throws `OptionError` for an unknown flag, a value of another form, a value that is refused, or two that exclude each other.
 */
export function parseArgs(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Parsed {
  const given = new Map<OptionName, Given>();
  const notices: string[] = [];
  for (const name of NAMES) {
    const row = rowOf(name);
    const text = row.env === undefined ? undefined : env[row.env];
    if (text === undefined || text === '') continue;
    given.set(name, { texts: [text], source: `${row.env}=${text}` });
  }
  for (const [name, texts] of flags(argv)) given.set(name, { texts, source: flagSource(name, texts) });
  const options = readAll<Options>(given, 'hub');
  checkTogether(options);
  const set = [...given].map(([name, { source }]) => ({ name, source, hubOnly: rowOf(name).where === 'hub' }));
  bridgeOptions(options, given);
  notices.push(...checkHeadless(options, set), ...unusedOfBridge(options, given));
  return { options, given, notices };
}

/**
 * Options of a node from its page's query and from what the hub offered on join; the query wins.
 * Throws `OptionError` as `parseArgs` does. Names of the offer that this page does not know are ignored: the hub may be newer.
 */
export function pageOptions(query: URLSearchParams, offered: Readonly<Record<string, string>>): PageOptions {
  const given = new Map<OptionName, Given>();
  for (const [key, text] of Object.entries(offered)) {
    if (isName(key) && rowOf(key).where === 'both')
      given.set(key, { texts: [text], source: `${key}=${text}, offered by the hub,` });
  }
  for (const key of new Set(query.keys())) {
    const { name, negated } = resolve(key, `?${key}`, '?');
    if (rowOf(name).where === 'hub')
      throw new OptionError(`?${key}: this is an option of the hub. Start the hub with --${key}.`);
    const texts = negated ? ['false'] : query.getAll(key);
    given.set(name, { texts, source: `?${key}${texts[0] ? `=${texts.join(',')}` : ''}` });
  }
  const options = readAll<PageOptions>(given, 'page');
  checkStep(options);
  checkRole(options);
  dataParallel(options);
  return options;
}

/** What the hub offers its nodes in `welcome.options`: whatever was set on the hub and applies to nodes. */
export function offeredOptions(given: Parsed['given']): Record<string, string> {
  const offered: Record<string, string> = {};
  for (const [name, { texts }] of given) {
    if (rowOf(name).where === 'both') offered[name] = texts.at(-1) || 'true';
  }
  return offered;
}

function rowOf(name: OptionName): Option<unknown> {
  return ROWS.get(name)!;
}

function isName(name: string): name is OptionName {
  return Object.hasOwn(OPTIONS, name);
}

/** The option that `written` means: by name, alias, or `no-` and the name of a switch. */
function resolve(written: string, shown: string, prefix: '--' | '?'): { name: OptionName; negated: boolean } {
  const name = NAMES.find((n) => n === written || rowOf(n).alias === written);
  if (name) return { name, negated: false };
  const bare = written.replace(/^no-/, '');
  if (bare !== written && isName(bare) && rowOf(bare).kind.isSwitch) return { name: bare, negated: true };
  const known = NAMES.flatMap((n) => [n, rowOf(n).alias ?? n, rowOf(n).kind.isSwitch ? `no-${n}` : n]);
  const near = written.length > MAX_NAME ? undefined : nearest(written, known);
  throw new OptionError(
    `${shown.slice(0, MAX_NAME)}: no such option.${near ? ` The nearest is ${prefix}${near}.` : ''}`,
  );
}

function flags(argv: readonly string[]): Map<OptionName, string[]> {
  const found = new Map<OptionName, string[]>();
  for (let i = 0; i < argv.length; i++) {
    const token = argv[i]!;
    if (!token.startsWith('--'))
      throw new OptionError(`"${token}": expected an option that begins with --. See --help.`);
    const [flag, ...rest] = token.split('=');
    const { name, negated } = resolve(flag!.slice(2), flag!, '--');
    if (rowOf(name).where === 'page')
      throw new OptionError(`--${name}: this is an option of a page. Open the page with ?${name}.`);
    let text = rest.length > 0 ? rest.join('=') : undefined;
    if (negated) {
      if (text !== undefined) throw new OptionError(`${token}: a --no- switch takes no value.`);
      text = 'false';
    } else if (text === undefined && rowOf(name).kind.isSwitch) {
      text = 'true';
    } else if (text === undefined) {
      text = argv[++i];
      if (text === undefined || text.startsWith('--'))
        throw new OptionError(`--${name}: expected a value: --${name} ${rowOf(name).kind.form}.`);
    }
    found.set(name, [...(found.get(name) ?? []), text]);
  }
  return found;
}

function flagSource(name: OptionName, texts: readonly string[]): string {
  if (!rowOf(name).kind.isSwitch) return `--${name} ${texts.join(' ')}`;
  return texts.at(-1) === 'false' ? `--no-${name}` : `--${name}`;
}

function readAll<T>(given: ReadonlyMap<OptionName, Given>, place: Place): T {
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const name of NAMES) {
    const row = rowOf(name);
    if (row.where !== 'both' && row.where !== place) continue;
    const set = given.get(name);
    values[name] = set ? readOne(row, set, place) : row.default;
  }
  return values as T;
}

function readOne(row: Option<unknown>, { texts, source }: Given, place: Place): unknown {
  let value: unknown;
  try {
    value = row.kind.read(texts);
  } catch (error) {
    throw new OptionError(`${source}: ${error instanceof Error ? error.message : String(error)}.`);
  }
  if (row.refused?.when(value, place)) {
    const working = row.kind.values?.filter((v) => !row.refused?.when(v, place));
    const next = working?.length && !row.kind.isSwitch ? `What works: ${working.join(', ')}.` : 'Leave it out.';
    throw new OptionError(`${source}: ${row.refused.reason}. ${next}`);
  }
  return value;
}

function checkTogether(options: Options): void {
  checkPorts(options);
  checkModels(options);
  const cert = options['tls-cert-path'];
  const key = options['tls-key-path'];
  if ((cert === null) !== (key === null)) {
    throw new OptionError(
      `${cert === null ? '--tls-key-path' : '--tls-cert-path'} needs ${cert === null ? '--tls-cert-path' : '--tls-key-path'} beside it: a certificate and its key.`,
    );
  }
  if (cert !== null && options.tls === 'self-signed')
    throw new OptionError('--tls self-signed makes its own certificate: give either it or --tls-cert-path, not both.');
  checkStep(options);
  checkRole(options, options.nodes);
  dataParallel(options);
}

/** nodes: roles of headless nodes; one without its own has the option's. */
function checkRole(
  options: Pick<PageOptions, 'disaggregation-mode' | 'kv-transfer-config'>,
  nodes: readonly (Role | null)[] = [null],
): void {
  for (const role of nodes) {
    const clash = roleClash(options['kv-transfer-config'], role ?? options['disaggregation-mode']);
    if (clash !== null) throw new OptionError(clash);
  }
}

function checkModels(options: Options): void {
  const models = options.model.length;
  const names = options['served-model-name'].length;
  if (names > 0 && names !== models) {
    throw new OptionError(
      `--served-model-name ${options['served-model-name'].join(' ')}: ${names === 1 ? 'one name' : `${names} names`} for ${models === 1 ? 'one model' : `${models} models`}. Give one for each --model, in their order, or none.`,
    );
  }
  if (models > 1 && options['chat-template'] !== null) {
    throw new OptionError(
      "--chat-template takes the place of one model's template, and this hub has several. Put the file into the model's folder as chat_template.jinja.",
    );
  }
}

function checkPorts(options: Options): void {
  const names = ['http-port', 'system-port', 'metrics-endpoint-port'] as const;
  const used = new Map<number, string>();
  for (const name of names) {
    const port = options[name];
    if (port === null || port === 0) continue;
    const other = used.get(port);
    if (other !== undefined)
      throw new OptionError(`--${name} ${port}: --${other} has this port. Choose another, or leave --${name} out.`);
    used.set(port, name);
  }
}

function checkStep(options: Pick<PageOptions, 'max-num-seqs' | 'max-num-batched-tokens'>): void {
  const seqs = options['max-num-seqs'];
  const batched = options['max-num-batched-tokens'];
  if (batched === null || batched > seqs) return;
  throw new OptionError(
    `max-num-batched-tokens ${batched}: a step must hold a token of each of max-num-seqs ${seqs} sequences and one of a prompt. Raise it to ${seqs + 1}, or lower max-num-seqs.`,
  );
}
