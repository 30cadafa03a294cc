import { ANY, DIGIT, LINE_ENDS, one, SPACE, union, WORD, without } from './char-sets.ts';
import { type CharSet, choice, EMPTY, GrammarError, type Node, repeat, sequence } from './ebnf.ts';

const MAX_DEPTH = 100;

/** What a regular expression matches, and between how many characters that has. */
export interface Regex {
  readonly node: Node;
  readonly shortest: number;
  /** null = any number. */
  readonly longest: number | null;
}

/** A whole expression: whether each of its alternatives begins with '^', and ends with '$'. */
export interface WholeRegex extends Regex {
  readonly anchored: readonly [begin: boolean, end: boolean];
}

/** How a character of a set is written: as it is, or as in a JSON string. */
export type WriteSet = (chars: CharSet) => Node;

/**
 * A grammar of what a regular expression matches as a whole (anchored or not), in the syntax of ECMA-262 with the flag `u`, which JSON
 * Schema prescribes. What is not regular or asserts something about its surroundings is refused by name.
 * Throws `GrammarError`.
 */
export function regexGrammar(source: string, write: WriteSet): WholeRegex {
  return new RegexParser([...source], source, write).parse();
}

class RegexParser {
  #at = 0;
  #depth = 0;
  #begins = true;
  #ends = true;

  constructor(
    private readonly chars: readonly string[],
    private readonly source: string,
    private readonly write: WriteSet,
  ) {}

  parse(): WholeRegex {
    const whole = this.#alternatives();
    if (this.#at < this.chars.length) this.#refuse(`'${this.chars[this.#at]}' without its partner`);
    return { ...whole, anchored: [this.#begins, this.#ends] };
  }

  #alternatives(): Regex {
    if (++this.#depth > MAX_DEPTH) this.#refuse(`more than ${MAX_DEPTH} groups in each other`);
    const all = [this.#terms()];
    while (this.#take('|')) all.push(this.#terms());
    this.#depth--;
    const [first] = all;
    if (all.length === 1 && first) return first;
    return {
      node: choice(...all.map(({ node }) => node)),
      shortest: Math.min(...all.map(({ shortest }) => shortest)),
      longest: all.reduce<number | null>(
        (most, { longest }) => (most === null || longest === null ? null : Math.max(most, longest)),
        0,
      ),
    };
  }

  #terms(): Regex {
    const top = this.#depth === 1;
    const parts: Regex[] = [];
    const begins = top && this.#take('^');
    let ends = false;
    while (this.#at < this.chars.length && !'|)'.includes(this.#peek())) {
      if (top && this.#peek() === '$' && (this.#at + 1 === this.chars.length || this.chars[this.#at + 1] === '|')) {
        this.#at++;
        ends = true;
        break;
      }
      parts.push(this.#quantified(this.#atom()));
    }
    if (top) {
      this.#begins &&= begins;
      this.#ends &&= ends;
    }
    return {
      node: parts.length === 0 ? EMPTY : sequence(...parts.map(({ node }) => node)),
      shortest: parts.reduce((sum, { shortest }) => sum + shortest, 0),
      longest: parts.reduce<number | null>(
        (sum, { longest }) => (sum === null || longest === null ? null : sum + longest),
        0,
      ),
    };
  }

  #quantified(atom: Regex): Regex {
    let times: readonly [number, number | null] | null = null;
    if (this.#take('*')) times = [0, null];
    else if (this.#take('+')) times = [1, null];
    else if (this.#take('?')) times = [0, 1];
    else if (this.#peek() === '{') times = this.#braces();
    if (times === null) return atom;
    // Lazy or greedy: the whole matches the same.
    this.#take('?');
    if ('*+?{'.includes(this.#peek() || ' ')) this.#refuse('a quantifier after a quantifier');
    const [least, most] = times;
    const { node, shortest, longest } = atom;
    const most0 = longest === 0 ? 0 : most === null || longest === null ? (most === 0 ? 0 : null) : most * longest;
    return { node: repeat(node, least, most), shortest: least * shortest, longest: most0 };
  }

  #braces(): readonly [number, number | null] {
    const rest = this.chars.slice(this.#at, this.#at + 24).join('');
    const match = /^\{(\d{1,9})(,(\d{0,9}))?\}/.exec(rest);
    if (!match) return this.#refuse("'{' that is no quantifier; write \\{ for the character");
    this.#at += match[0].length;
    const least = Number(match[1]);
    const most = match[2] === undefined ? least : match[3] === '' ? null : Number(match[3]);
    if (most !== null && most < least) this.#refuse(`the quantifier ${match[0]}, which ends before it begins`);
    return [least, most];
  }

  #atom(): Regex {
    const char = this.chars[this.#at++]!;
    if (char === '(') return this.#group();
    if (char === '[') return this.#of(this.#class());
    if (char === '.') return this.#of(without(ANY, LINE_ENDS));
    if (char === '\\') return this.#of(this.#escape(false));
    if (char === '^' || char === '$')
      this.#refuse(`'${char}' that is not at its ${char === '^' ? 'beginning' : 'end'}`);
    if ('*+?{'.includes(char)) this.#refuse(`'${char}' with nothing before it`);
    if (char === ']' || char === '}') this.#refuse(`'${char}' without its partner`);
    return this.#of(one(char));
  }

  #group(): Regex {
    if (this.#take('?')) {
      const named = this.#peek() === '<' && !'=!'.includes(this.chars[this.#at + 1] ?? '=');
      if (named) {
        const end = this.chars.indexOf('>', this.#at);
        if (end < 0) this.#refuse('a group whose name does not end');
        this.#at = end + 1;
      } else if (!this.#take(':')) {
        this.#refuse(`the group (?${this.chars.slice(this.#at, this.#at + 2).join('')}: look-around and flags`);
      }
    }
    const inner = this.#alternatives();
    if (!this.#take(')')) this.#refuse("'(' without its ')'");
    return inner;
  }

  #class(): CharSet {
    const negated = this.#take('^');
    const sets: CharSet[] = [];
    while (this.#peek() !== ']') {
      if (this.#at >= this.chars.length) this.#refuse("'[' without its ']'");
      const first = this.#classAtom();
      const isRange = this.#peek() === '-' && this.chars[this.#at + 1] !== ']' && this.#at + 1 < this.chars.length;
      if (!isRange) {
        sets.push(first);
        continue;
      }
      this.#at++;
      const last = this.#classAtom();
      const [from, to] = [single(first), single(last)];
      if (from === null || to === null || from > to) return this.#refuse('a range of characters that does not rise');
      sets.push([[from, to]]);
    }
    this.#at++;
    const all = union(...sets);
    return negated ? without(ANY, all) : without(all, without([[0, 0x10ffff]], ANY));
  }

  #classAtom(): CharSet {
    const char = this.chars[this.#at++]!;
    return char === '\\' ? this.#escape(true) : one(char);
  }

  #escape(inClass: boolean): CharSet {
    const char = this.chars[this.#at++];
    if (char === undefined) return this.#refuse("'\\' at its end");
    const shorthand = { d: DIGIT, w: WORD, s: SPACE }[char.toLowerCase()];
    if (shorthand) return char === char.toLowerCase() ? shorthand : without(ANY, shorthand);
    const control = { n: '\n', r: '\r', t: '\t', f: '\f', v: '\v' }[char];
    if (control) return one(control);
    if (char === 'b' && inClass) return one('\b');
    if (char === '0' && !/\d/.test(this.#peek())) return one('\0');
    if (char === 'x') return this.#code(/^[0-9a-fA-F]{2}/);
    if (char === 'u')
      return this.#peek() === '{' ? this.#code(/^\{([0-9a-fA-F]{1,6})\}/) : this.#code(/^[0-9a-fA-F]{4}/);
    if (/[A-Za-z0-9]/.test(char)) this.#refuse(`\\${char}: word borders, back-references and Unicode properties`);
    return one(char);
  }

  #code(digits: RegExp): CharSet {
    const match = digits.exec(this.chars.slice(this.#at, this.#at + 8).join(''));
    const code = match ? Number.parseInt(match[1] ?? match[0], 16) : -1;
    if (!match || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
      return this.#refuse('a character by number that is none');
    this.#at += match[0].length;
    return [[code, code]];
  }

  #of(chars: CharSet): Regex {
    if (chars.length === 0) this.#refuse('a set of characters that is empty');
    return { node: this.write(chars), shortest: 1, longest: 1 };
  }

  #peek(): string {
    return this.chars[this.#at] ?? '';
  }

  #take(char: string): boolean {
    if (this.chars[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #refuse(what: string): never {
    throw new GrammarError(
      `the regular expression ${JSON.stringify(this.source.slice(0, 200))} has ${what}, which cannot be held to here`,
    );
  }
}

function single(chars: CharSet): number | null {
  const [range] = chars;
  return chars.length === 1 && range && range[0] === range[1] ? range[0] : null;
}
