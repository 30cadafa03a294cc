import { choice, type Node, optional, repeat, sequence, set, text } from './ebnf.ts';
import { MOST_DIGITS } from './json-text.ts';

const LARGEST = 10n ** BigInt(MOST_DIGITS) - 1n;
const digits = (least: number, most: number): Node => repeat(set([0x30, 0x39]), least, most);

/** Integers from `least` to `most`, either null = as far as doubles are exact; null where there is none. */
export function integers(least: bigint | null, most: bigint | null): Node | null {
  const from = least === null || least < -LARGEST ? -LARGEST : least;
  const to = most === null || most > LARGEST ? LARGEST : most;
  const parts: Node[] = [];
  if (from < 0n) {
    const low = to < 0n ? -to : 1n;
    if (low <= -from) parts.push(sequence(text('-'), naturals(low, -from)));
  }
  if (to >= 0n && from <= to) parts.push(naturals(from < 0n ? 0n : from, to));
  return parts.length === 0 ? null : choice(...parts);
}

/** Numbers from 0 on without leading zeros. */
function naturals(from: bigint, to: bigint): Node {
  const parts: Node[] = [];
  for (let width = String(from).length; width <= String(to).length; width++) {
    const least = width === 1 ? 0n : 10n ** BigInt(width - 1);
    const most = 10n ** BigInt(width) - 1n;
    parts.push(sameWidth(String(from > least ? from : least), String(to < most ? to : most)));
  }
  return choice(...parts);
}

/** Digit strings of one width from `a` to `b`. */
function sameWidth(a: string, b: string): Node {
  if (a === b) return text(a);
  if (/^0*$/.test(a) && /^9*$/.test(b)) return digits(a.length, a.length);
  const [first, last] = [a.charCodeAt(0), b.charCodeAt(0)];
  const [tailA, tailB] = [a.slice(1), b.slice(1)];
  if (tailA === '') return set([first, last]);
  if (first === last) return sequence(text(a.charAt(0)), sameWidth(tailA, tailB));
  const nines = '9'.repeat(tailA.length);
  const zeros = '0'.repeat(tailA.length);
  const parts: Node[] = [];
  const low = tailA === zeros ? first : first + 1;
  const high = tailB === nines ? last : last - 1;
  if (low > first) parts.push(sequence(text(a.charAt(0)), sameWidth(tailA, nines)));
  if (low <= high) parts.push(sequence(set([low, high]), digits(tailA.length, tailA.length)));
  if (high < last) parts.push(sequence(text(b.charAt(0)), sameWidth(zeros, tailB)));
  return choice(...parts);
}

/** A number that is not negative, as digits before and after the point. */
interface Decimal {
  readonly whole: bigint;
  /** As many digits as its partner has, at least one. */
  readonly fraction: string;
}

/**
 * Decimal numbers from `least` to `most`, both scaled by 10^places, without exponents: all those of at most `places` digits after the point,
 * and those of more digits where every continuation lies within. null = as far as doubles are exact; null where there is none.
 */
export function decimals(least: bigint | null, most: bigint | null, places: number): Node | null {
  const scale = 10n ** BigInt(places);
  const limit = LARGEST * scale;
  const from = least === null || least < -limit ? -limit : least;
  const to = most === null || most > limit ? limit : most;
  if (from > to) return null;
  const split = (x: bigint): Decimal => ({
    whole: x / scale,
    fraction: String(x % scale).padStart(places, '0'),
  });
  const parts: Node[] = [];
  if (from < 0n) parts.push(sequence(text('-'), magnitudes(split(to < 0n ? -to : 0n), split(-from))));
  if (to >= 0n) parts.push(magnitudes(split(from < 0n ? 0n : from), split(to)));
  return choice(...parts);
}

function magnitudes(a: Decimal, b: Decimal): Node {
  const parts: Node[] = [];
  const isWhole = /^0*$/.test(a.fraction);
  if (isWhole) parts.push(text(String(a.whole)));
  if (a.whole === b.whole) {
    parts.push(sequence(text(`${a.whole}.`), fractions(a.fraction, b.fraction)));
    return choice(...parts);
  }
  // Whole numbers between the two take any fraction; so does the first one where it has none itself.
  const first = isWhole ? a.whole : a.whole + 1n;
  if (!isWhole) parts.push(sequence(text(`${a.whole}.`), fractions(a.fraction, null)));
  if (first < b.whole)
    parts.push(sequence(naturals(first, b.whole - 1n), optional(sequence(text('.'), digits(1, MOST_DIGITS)))));
  parts.push(
    text(String(b.whole)),
    sequence(text(`${b.whole}.`), fractions('0'.repeat(b.fraction.length), b.fraction)),
  );
  return choice(...parts);
}

const anyDigits = digits(0, MOST_DIGITS - 1);
const between = (first: number, last: number): Node[] => (first > last ? [] : [set([first, last])]);
const [ZERO, NINE] = [0x30, 0x39];

/** Digits after a point, at least one, of fractions from `a` to `b`, of as many digits; null = all above. What ends early ends in zeros. */
function fractions(a: string, b: string | null): Node {
  const [low, tailA] = [a.charCodeAt(0), a.slice(1)];
  const [high, tailB] = b === null ? [NINE + 1, ''] : [b.charCodeAt(0), b.slice(1)];
  if (low === high) {
    if (tailA === '') return text(a);
    const more = fractions(tailA, tailB);
    return sequence(text(a.charAt(0)), /^0*$/.test(tailA) ? optional(more) : more);
  }
  const parts = [sequence(text(a.charAt(0)), atLeast(tailA))];
  for (const digit of between(low + 1, high - 1)) parts.push(sequence(digit, anyDigits));
  if (b !== null) parts.push(sequence(text(b.charAt(0)), atMost(tailB)));
  return choice(...parts);
}

function atLeast(digitsOf: string): Node {
  if (/^0*$/.test(digitsOf)) return anyDigits;
  const [first, rest] = [digitsOf.charCodeAt(0), digitsOf.slice(1)];
  const above = between(first + 1, NINE).map((digit) => sequence(digit, anyDigits));
  return choice(sequence(text(digitsOf.charAt(0)), atLeast(rest)), ...above);
}

function atMost(digitsOf: string): Node {
  if (digitsOf === '') return text('');
  const [first, rest] = [digitsOf.charCodeAt(0), digitsOf.slice(1)];
  const below = between(ZERO, first - 1).map((digit) => sequence(digit, anyDigits));
  return choice(text(''), sequence(text(digitsOf.charAt(0)), atMost(rest)), ...below);
}
