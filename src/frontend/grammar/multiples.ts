import { union } from './char-sets.ts';
import { type CharSet, choice, GrammarError, type Node, type Rules, rule, sequence, set, text } from './ebnf.ts';
import { MOST_DIGITS } from './json-text.ts';

const LARGEST = 10n ** BigInt(MOST_DIGITS) - 1n;
/** Rules of one factor: what bounds the size of the grammar. */
const MAX_RULES = 800;

/** Multiples of `factor` from `least` to `most`, either null = as far as doubles are exact; null where there is none. */
export function multiples(least: bigint | null, most: bigint | null, factor: number, rules: Rules): Node | null {
  const from = least === null || least < -LARGEST ? -LARGEST : least;
  const to = most === null || most > LARGEST ? LARGEST : most;
  const digits = new Digits(factor, rules);
  const parts: Node[] = [];
  if (from <= 0n && to >= 0n) parts.push(text('0'));
  const below = from < 0n ? digits.between(to < 0n ? -to : 1n, -from) : null;
  if (below) parts.push(sequence(text('-'), below));
  const above = to > 0n ? digits.between(from > 0n ? from : 1n, to) : null;
  if (above) parts.push(above);
  return parts.length === 0 ? null : choice(...parts);
}

const common = (a: bigint, b: bigint): bigint => (b === 0n ? a : common(b, a % b));

/** Numbers digit by digit, with what is left of the factor: rules are shared by all that need the same rest. */
class Digits {
  readonly #known = new Map<string, Node | null>();
  readonly #factor: bigint;
  readonly #prefix: string;

  constructor(
    factor: number,
    private readonly rules: Rules,
  ) {
    this.#factor = BigInt(factor);
    this.#prefix = `m${factor}`;
  }

  /** Multiples from `a` to `b`, both above 0, without leading zeros; null where there is none. */
  between(a: bigint, b: bigint): Node | null {
    const parts: Node[] = [];
    for (let width = String(a).length; width <= String(b).length; width++) {
      const [least, most] = [10n ** BigInt(width - 1), 10n ** BigInt(width) - 1n];
      const node = this.#span(String(a > least ? a : least), String(b < most ? b : most), 0n);
      if (node) parts.push(node);
    }
    return parts.length === 0 ? null : choice(...parts);
  }

  /** Digit strings of one width from `a` to `b` that make a multiple after `before`, the remainder of the digits before them. */
  #span(a: string, b: string, before: bigint): Node | null {
    if (a === '') return before === 0n ? text('') : null;
    const free = /^0*$/.test(a) && /^9*$/.test(b);
    if (free) return this.#free(a.length, before);
    const [first, last] = [Number(a[0]), Number(b[0])];
    const [tailA, tailB] = [a.slice(1), b.slice(1)];
    return this.#branches(first, last, before, (digit, remainder) =>
      this.#span(
        digit === first ? tailA : '0'.repeat(tailA.length),
        digit === last ? tailB : '9'.repeat(tailB.length),
        remainder,
      ),
    );
  }

  /** Any `width` digits that make a multiple after `before`. */
  #free(width: number, remainder: bigint): Node | null {
    if (width === 0) return remainder === 0n ? text('') : null;
    // Powers of ten take factors of 2 and 5 away: of the remainder less counts the farther the last digit is.
    const before = remainder % (this.#factor / common(this.#factor, 10n ** BigInt(width)));
    const key = `${width} ${before}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= MAX_RULES)
      throw new GrammarError(
        `'multipleOf' ${this.#factor} needs too large a grammar. Choose a smaller factor, or check it afterwards`,
      );
    this.#known.set(key, null);
    const node = this.#branches(0, 9, before, (_, remainder) => this.#free(width - 1, remainder));
    if (node === null) return null;
    const name = this.rules.reserve(`${this.#prefix}_${width}_${before}`);
    this.rules.define(name, node);
    this.#known.set(key, rule(name));
    return rule(name);
  }

  /** A digit and what may follow it; digits before the same are one set. */
  #branches(
    first: number,
    last: number,
    before: bigint,
    next: (digit: number, remainder: bigint) => Node | null,
  ): Node | null {
    const found = new Map<string, { digits: CharSet; rest: Node }>();
    for (let digit = first; digit <= last; digit++) {
      const rest = next(digit, (before * 10n + BigInt(digit)) % this.#factor);
      if (rest === null) continue;
      const key = JSON.stringify(rest);
      const code = 0x30 + digit;
      found.set(key, { digits: union(found.get(key)?.digits ?? [], [[code, code]]), rest });
    }
    if (found.size === 0) return null;
    return choice(...[...found.values()].map(({ digits, rest }) => sequence(set(...digits), rest)));
  }
}
