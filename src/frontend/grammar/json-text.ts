import { has, one, union, without } from './char-sets.ts';
import { type CharSet, choice, type Node, optional, type Rules, repeat, rule, sequence, set, text } from './ebnf.ts';

/** Characters between two parts of a JSON text; bounded, so that no model writes blanks for ever. */
const MOST_BLANKS = 20;
/** Digits that stay exact in a double. */
export const MOST_DIGITS = 15;

const HEX: CharSet = [
  [0x30, 0x39],
  [0x41, 0x46],
  [0x61, 0x66],
];
/** Characters that stand for themselves in a JSON string (RFC 8259, section 7). */
const PLAIN: CharSet = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0xd7ff],
  [0xe000, 0x10ffff],
];
/** Characters that are two code units in UTF-16. */
const ASTRAL: CharSet = [[0x10000, 0x10ffff]];
/** Those that can only be escaped, by their escapes. */
const ESCAPES: readonly (readonly [char: string, escape: string])[] = [
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
];

/** Blanks, where JSON allows any. */
export const blanks = (rules: Rules): Node =>
  rules.shared('blanks', () => repeat(set([0x09, 0x0a], [0x20, 0x20]), 0, MOST_BLANKS));

const SIMPLE_ESCAPES = union(...[...'"\\/bfnrt'].map(one));

/** A backslash and what follows it. By number too where `numbered`, but for halves of surrogate pairs, which need not be a character. */
function escapeSequence(numbered: boolean): Node {
  const simple: Node = { kind: 'set', set: SIMPLE_ESCAPES };
  if (!numbered) return sequence(text('\\'), simple);
  const hex: Node = { kind: 'set', set: HEX };
  const d = union(one('D'), one('d'));
  const high = sequence({ kind: 'set', set: without(HEX, d) }, hex, hex, hex);
  const low = sequence({ kind: 'set', set: d }, set([0x30, 0x37]), hex, hex);
  return sequence(text('\\'), choice(simple, sequence(text('u'), choice(high, low))));
}

/**
 * One character of a string whose characters are counted. Without escapes by number, which cost much to count, and without characters that
 * are two to JavaScript: by JSON Schema they count as one, by many who check it as two.
 */
const countedChar = (rules: Rules): Node =>
  rules.shared('char', () => choice({ kind: 'set', set: without(PLAIN, ASTRAL) }, escapeSequence(false)));

/**
 * One character of a set inside a JSON string: plain where it may be, else by its short escape. Other control characters are left out; so are
 * characters beyond 16 bits, unless the set has no others: many who check a pattern take each for two.
 */
export function stringSet(chars: CharSet): Node {
  const all = without(chars, without([[0, 0x10ffff]], PLAIN));
  const short = without(all, ASTRAL);
  const plain = short.length > 0 ? short : all;
  const escapes = ESCAPES.filter(([char]) => has(chars, char.charCodeAt(0))).map(([, written]) => text(written));
  return choice(...(plain.length > 0 ? [{ kind: 'set', set: plain } as const] : []), ...escapes);
}

/** A string in its quotes. */
export const quoted = (inner: Node): Node => sequence(text('"'), inner, text('"'));

/**
 * The rest of a string to its closing quote. Recursive at its end, not repeated, and with its ASCII characters in the rule itself: xgrammar
 * finds what may come next much faster so.
 */
const stringRest = (rules: Rules): Node =>
  rules.shared('string_rest', () => {
    const rest = rule('string_rest');
    const ascii: Node = { kind: 'set', set: without(PLAIN, [[0x80, 0x10ffff]]) };
    const others: Node = { kind: 'set', set: without(PLAIN, [[0, 0x7f]]) };
    const escaped = rules.shared('escape', () => escapeSequence(true));
    return choice(text('"'), sequence(ascii, rest), sequence(others, rest), sequence(escaped, rest));
  });

/** A string of so many characters (of Unicode). */
export const anyString = (rules: Rules, least = 0, most: number | null = null): Node =>
  least === 0 && most === null
    ? rules.shared('string', () => sequence(text('"'), stringRest(rules)))
    : quoted(repeat(countedChar(rules), least, most));

export const anyBoolean = choice(text('true'), text('false'));
export const anyNull = text('null');

/** A number whose double is finite. */
export const anyNumber = (rules: Rules): Node =>
  rules.shared('number', () => {
    const digit = set([0x30, 0x39]);
    const whole = choice(text('0'), sequence(set([0x31, 0x39]), repeat(digit, 0, MOST_DIGITS - 1)));
    const exponent = sequence(
      set([0x45, 0x45], [0x65, 0x65]),
      optional(set([0x2b, 0x2b], [0x2d, 0x2d])),
      repeat(digit, 1, 2),
    );
    return sequence(
      optional(text('-')),
      whole,
      optional(sequence(text('.'), repeat(digit, 1, MOST_DIGITS))),
      optional(exponent),
    );
  });

/** Parts with commas and blanks between them, in `open` and `close`. */
export const listed = (rules: Rules, open: string, inner: Node, close: string): Node =>
  sequence(text(open), blanks(rules), inner, blanks(rules), text(close));

export const comma = (rules: Rules): Node => sequence(blanks(rules), text(','), blanks(rules));
export const member = (rules: Rules, key: Node, value: Node): Node =>
  sequence(key, blanks(rules), text(':'), blanks(rules), value);

/** Any JSON value. */
export const anyValue = (rules: Rules): Node =>
  rules.shared('value', () =>
    choice(anyString(rules), anyNumber(rules), anyBoolean, anyNull, anyObject(rules), anyArray(rules)),
  );

export const anyObject = (rules: Rules): Node => mapOf(rules, 'object', anyString(rules), () => rule('value'));
export const anyArray = (rules: Rules): Node =>
  rules.shared('array', () => {
    const more = repeat(sequence(comma(rules), anyValue(rules)), 0, null);
    return listed(rules, '[', optional(sequence(anyValue(rules), more)), ']');
  });

function mapOf(rules: Rules, name: string, key: Node, value: () => Node): Node {
  return rules.shared(name, () => {
    anyValue(rules);
    const one = member(rules, key, value());
    return listed(rules, '{', optional(sequence(one, repeat(sequence(comma(rules), one), 0, null))), '}');
  });
}
