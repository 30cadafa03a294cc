import { MAX_GRAMMAR_LENGTH } from '../../protocol/generate.ts';
import { type ByteRange, utf8Ranges } from './utf8.ts';

/** Why something cannot be held to a grammar; the message names the place and what to do. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';
}

/** Code points from the first to the last of each range, ascending and apart. */
export type CharSet = readonly (readonly [first: number, last: number])[];

/** A piece of a grammar. */
export type Node =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'set'; readonly set: CharSet }
  | { readonly kind: 'sequence' | 'choice'; readonly parts: readonly Node[] }
  /** `most` null = any number. */
  | { readonly kind: 'repeat'; readonly part: Node; readonly least: number; readonly most: number | null }
  | { readonly kind: 'rule'; readonly name: string };

export const text = (value: string): Node => ({ kind: 'text', text: value });
export const EMPTY = text('');
export const set = (...ranges: (readonly [number, number])[]): Node => ({ kind: 'set', set: ranges });
export const sequence = (...parts: Node[]): Node => ({ kind: 'sequence', parts });
export const choice = (...parts: Node[]): Node => ({ kind: 'choice', parts });
export const repeat = (part: Node, least: number, most: number | null): Node =>
  most === 0 ? EMPTY : { kind: 'repeat', part, least, most };
export const optional = (part: Node): Node => repeat(part, 0, 1);
export const rule = (name: string): Node => ({ kind: 'rule', name });

/** States that a grammar may need once its repetitions are written out: what bounds the time and memory of compiling it. */
const MAX_STATES = 50_000;

/** Named rules, printed as the EBNF that xgrammar reads. `root` is where it begins. */
export class Rules {
  readonly #rules = new Map<string, Node | null>();
  #states = 0;

  /** A name of its own, made of `hint`; its rule is still to be defined. */
  reserve(hint: string): string {
    const word = hint.replace(/\W/g, '_').slice(0, 40) || 'rule';
    let name = /^[a-z_]/i.test(word) ? word : `_${word}`;
    for (let i = 2; this.#rules.has(name); i++) name = `${word.replace(/^(?![a-z_])/i, '_')}_${i}`;
    this.#rules.set(name, null);
    return name;
  }

  /** Throws `GrammarError` when the grammar becomes too large. */
  define(name: string, node: Node): void {
    this.#states += states(node);
    if (this.#states > MAX_STATES)
      throw new GrammarError(
        `it is too large: written out it has more than ${MAX_STATES} states. Lower its bounds of repetition (maxLength, maxItems, {n,m}), or make it smaller`,
      );
    this.#rules.set(name, this.#withNamedRepeats(node));
  }

  /** The rule of that name, defined on first use. */
  shared(name: string, define: () => Node): Node {
    if (!this.#rules.has(name)) {
      this.#rules.set(name, null);
      this.define(name, define());
    }
    return rule(name);
  }

  /** The grammar as text. Throws `GrammarError` where nothing finite matches it, or it is too long. */
  print(): string {
    if (!this.#endsSomewhere()) throw new GrammarError('nothing finite matches it: it requires itself without end');
    const lines = [...this.#rules].map(([name, node]) => `${name} ::= ${print(node ?? EMPTY)}\n`);
    const printed = lines.join('');
    if (printed.length > MAX_GRAMMAR_LENGTH)
      throw new GrammarError(
        `it is too large: ${printed.length} characters of grammar, ${MAX_GRAMMAR_LENGTH} are the most`,
      );
    return printed;
  }

  /** xgrammar writes repetitions out: of a rule that is cheap, of anything larger it takes minutes. */
  #withNamedRepeats(node: Node): Node {
    if (node.kind === 'sequence' || node.kind === 'choice')
      return { kind: node.kind, parts: node.parts.map((part) => this.#withNamedRepeats(part)) };
    if (node.kind !== 'repeat') return node;
    const part = this.#withNamedRepeats(node.part);
    if (node.most === 1 || part.kind === 'rule' || part.kind === 'text' || isAscii(part)) return { ...node, part };
    const name = this.reserve('part');
    this.#rules.set(name, part);
    return { ...node, part: rule(name) };
  }

  /** Whether some sentence of `root` is finite: the least set of rules that are made of ended parts, grown until it stays. */
  #endsSomewhere(): boolean {
    const ended = new Set<string>();
    for (let before = -1; before < ended.size; ) {
      before = ended.size;
      for (const [name, node] of this.#rules) if (node !== null && ends(node, ended)) ended.add(name);
    }
    return ended.has('root');
  }
}

function ends(node: Node, ended: ReadonlySet<string>): boolean {
  switch (node.kind) {
    case 'text':
      return true;
    case 'set':
      return node.set.length > 0;
    case 'sequence':
      return node.parts.every((part) => ends(part, ended));
    case 'choice':
      return node.parts.some((part) => ends(part, ended));
    case 'repeat':
      return node.least === 0 || ends(node.part, ended);
    case 'rule':
      return ended.has(node.name);
  }
}

function states(node: Node): number {
  switch (node.kind) {
    case 'text':
      return node.text.length;
    case 'set':
      return node.set.length;
    case 'rule':
      return 1;
    case 'sequence':
    case 'choice':
      return node.parts.reduce((sum, part) => sum + states(part), 1);
    case 'repeat':
      return 1 + states(node.part) * Math.max(1, node.most ?? node.least);
  }
}

function print(node: Node): string {
  switch (node.kind) {
    case 'text':
      return `"${[...node.text].map((char) => escaped(char.codePointAt(0)!, '"')).join('')}"`;
    case 'set':
      return printSet(node.set);
    case 'sequence':
      return node.parts.length === 0 ? '""' : `(${node.parts.map(print).join(' ')})`;
    case 'choice':
      return `(${node.parts.map(print).join(' | ')})`;
    case 'repeat':
      return `(${print(node.part)})${times(node.least, node.most)}`;
    case 'rule':
      return node.name;
  }
}

const isAscii = (node: Node) => node.kind === 'set' && node.set.every(([, last]) => last < 0x80);

/**
 * xgrammar takes what lies beyond ASCII in a set for bytes (0.1.27: 8 bits of each number), so characters are given as their UTF-8. A set of
 * one byte it would take for a character: the byte stands there twice.
 */
function printSet(set: CharSet): string {
  const ascii = set.filter(([first]) => first < 0x80).map(([first, last]): ByteRange => [first, Math.min(last, 0x7f)]);
  const others = set
    .filter(([, last]) => last >= 0x80)
    .flatMap(([first, last]) => utf8Ranges(Math.max(first, 0x80), last));
  const bytes = (ranges: readonly ByteRange[]) =>
    `[${ranges.map(([first, last]) => (first === last ? inSet(first) : `${inSet(first)}-${inSet(last)}`)).join('')}]`;
  const one = (range: ByteRange) => bytes(range[0] === range[1] ? [range, range] : [range]);
  const all = [...(ascii.length > 0 ? [bytes(ascii)] : []), ...others.map((ranges) => ranges.map(one).join(' '))];
  return all.length === 1 ? (all[0] as string) : `(${all.join(' | ')})`;
}

function times(least: number, most: number | null): string {
  if (most === null) return least === 0 ? '*' : least === 1 ? '+' : `{${least},}`;
  return least === 0 && most === 1 ? '?' : `{${least},${most}}`;
}

const inSet = (code: number) => escaped(code, ']-^[');

/** One character of a literal or set: `special` ones and what is no printable ASCII by number. */
function escaped(code: number, special: string): string {
  const char = String.fromCodePoint(code);
  if (code >= 0x20 && code < 0x7f && char !== '\\' && !special.includes(char)) return char;
  return code > 0xffff ? `\\U${hex(code, 8)}` : `\\u${hex(code, 4)}`;
}

const hex = (code: number, width: number) => code.toString(16).padStart(width, '0');
