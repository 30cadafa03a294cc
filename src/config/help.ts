import type { Group, Option } from './option.ts';
import { OPTIONS } from './table.ts';

const GROUPS: readonly { readonly group: Group; readonly about: string }[] = [
  { group: 'Runtime', about: "Dynamo's names and variables" },
  { group: 'Quire', about: "Quire's own" },
  { group: 'Engine', about: "vLLM's names" },
];
const WIDTH = 100;
const INDENT = 8;

const rows = (group: Group): [string, Option<unknown>][] =>
  (Object.entries(OPTIONS) as unknown as [string, Option<unknown>][]).filter(([, row]) => row.group === group);

/** Text of `--help`, three groups, at most 100 columns. */
export function helpText(): string {
  const lines = [
    'Quire: lend a GPU to an inference cluster by opening a web page,',
    'and use that cluster through the OpenAI API.',
    '',
    'Usage: npm start -- [options]',
    '',
    'Precedence: flag or page query > environment > what the hub offers on join > default.',
    'A repeated option takes its last value, a repeatable one takes all.',
  ];
  for (const { group, about } of GROUPS) {
    lines.push('', `${group} options (${about})`);
    for (const [name, row] of rows(group)) {
      const facts = [`default: ${defaultOf(row)}`];
      if (row.env) facts.push(`env: ${row.env}`);
      if (row.alias) facts.push(`also: --${row.alias}`);
      const about = [row.help, `[${facts.join('; ')}]`, limits(row)].filter(Boolean).join(' ');
      lines.push(`  ${spelled(name, row)}`, ...wrap(about).map((line) => ' '.repeat(INDENT) + line));
    }
  }
  return `${lines.join('\n')}\n`;
}

/** The options reference, docs/options.md: generated, held equal by a test. */
export function optionsMarkdown(): string {
  const lines = [
    '# Options',
    '',
    'Generated from the table in `src/config` by `npx tsx scripts/write-options.ts`; change the table, not this file.',
    '',
    "Flags of `npm start -- ...` and keys of a page's query have the same names: `--block-size 16`, `?block-size=16`.",
    'Precedence: flag or query > environment > what the hub offers on join > default.',
    'A value that is not there yet is refused with the reason, and the exit code is 2.',
    '*Where* says who reads the option: the hub, a page (its query), or both (then the hub offers its value to its nodes).',
  ];
  for (const { group, about } of GROUPS) {
    lines.push('', `## ${group}`, '', `${about[0]!.toUpperCase()}${about.slice(1)}.`, '');
    lines.push('| flag | default | variable | where | meaning | limits |', '|---|---|---|---|---|---|');
    for (const [name, row] of rows(group)) {
      const flag = [`\`${spelled(name, row)}\``, row.alias ? `alias \`--${row.alias}\`` : '']
        .filter(Boolean)
        .join(', ');
      const cells = [flag, defaultOf(row), row.env ? `\`${row.env}\`` : '', row.where, row.help, limits(row)];
      lines.push(`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function spelled(name: string, { kind, where }: Option<unknown>): string {
  const dashes = where === 'page' ? '?' : '--';
  if (kind.isSwitch) return where === 'page' ? `?${name}` : `--${name}, --no-${name}`;
  return `${dashes}${name} ${kind.form}`;
}

function defaultOf({ default: value, defaultText, kind }: Option<unknown>): string {
  if (defaultText) return defaultText;
  if (value === null) return 'none';
  if (kind.isSwitch) return value ? 'on' : 'off';
  return Array.isArray(value) ? value.join(',') : String(value);
}

/** What of an option does not work, and why; empty when all of it does. */
function limits({ refused, kind, default: fallback }: Option<unknown>): string {
  if (!refused) return '';
  const sentence = `${refused.reason[0]!.toUpperCase()}${refused.reason.slice(1)}.`;
  const values = kind.values?.filter((value) => refused.when(value, 'hub')) ?? [];
  if (kind.isSwitch || values.length === 0) return refused.when(fallback, 'hub') ? `Refused. ${sentence}` : sentence;
  return `Refused: ${values.join(', ')}. ${sentence}`;
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && INDENT + last.length + 1 + word.length <= WIDTH)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
