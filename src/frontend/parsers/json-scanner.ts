/** Deepest nesting of objects and lists. */
const MAX_DEPTH = 64;
const MAX_NUMBER = 512;

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const LITERALS: Readonly<Record<string, string>> = { t: 'true', f: 'false', n: 'null' };

type State =
  | 'value'
  | 'first item'
  | 'first key'
  | 'key'
  | 'colon'
  | 'next'
  | 'string'
  | 'escape'
  | 'hex'
  | 'literal'
  | 'number';

/** `more`: the value goes on; `last`: this character ends it; `over`: it ended before this character; `wrong`: it is no JSON (RFC 8259). */
export type Scanned = 'more' | 'last' | 'over' | 'wrong';

/** Follows one JSON value, character by character, in constant memory. Raw control characters inside of strings pass, as models write them. */
export class JsonScanner {
  #state: State = 'value';
  readonly #open: ('{' | '[')[] = [];
  #inKey = false;
  /** What is left of a literal, or all of a number. */
  #word = '';
  #hex = 0;

  get inString(): boolean {
    return this.#state === 'string';
  }

  push(char: string): Scanned {
    switch (this.#state) {
      case 'string':
        return this.#string(char);
      case 'escape':
        this.#hex = 0;
        this.#state = char === 'u' ? 'hex' : 'string';
        return '"\\/bfnrtu'.includes(char) ? 'more' : 'wrong';
      case 'hex':
        if (++this.#hex === 4) this.#state = 'string';
        return /[0-9a-fA-F]/.test(char) ? 'more' : 'wrong';
      case 'literal':
        if (!this.#word.startsWith(char)) return 'wrong';
        this.#word = this.#word.slice(1);
        return this.#word === '' ? this.#done('last') : 'more';
      case 'number':
        return this.#number(char);
      default:
        return ' \t\n\r'.includes(char) ? 'more' : this.#structure(char);
    }
  }

  /** The text has ended: whether the value had, too. Only a number can end so. */
  ends(): boolean {
    return this.#state === 'number' && this.#open.length === 0 && NUMBER.test(this.#word);
  }

  #string(char: string): Scanned {
    if (char === '\\') this.#state = 'escape';
    if (char !== '"') return 'more';
    if (!this.#inKey) return this.#done('last');
    this.#inKey = false;
    this.#state = 'colon';
    return 'more';
  }

  #number(char: string): Scanned {
    if (/[\d.eE+-]/.test(char) && this.#word.length < MAX_NUMBER) {
      this.#word += char;
      return 'more';
    }
    if (!NUMBER.test(this.#word)) return 'wrong';
    return this.#done('over') === 'over' ? 'over' : this.push(char);
  }

  #structure(char: string): Scanned {
    switch (this.#state) {
      case 'first key':
        if (char === '}') return this.#close('{');
        return this.#key(char);
      case 'key':
        return this.#key(char);
      case 'colon':
        this.#state = 'value';
        return char === ':' ? 'more' : 'wrong';
      case 'first item':
        return char === ']' ? this.#close('[') : this.#value(char);
      case 'next':
        if (char !== ',') return char === '}' ? this.#close('{') : char === ']' ? this.#close('[') : 'wrong';
        this.#state = this.#open.at(-1) === '{' ? 'key' : 'value';
        return 'more';
      default:
        return this.#value(char);
    }
  }

  #key(char: string): Scanned {
    this.#inKey = true;
    this.#state = 'string';
    return char === '"' ? 'more' : 'wrong';
  }

  #value(char: string): Scanned {
    if (char === '{' || char === '[') {
      this.#open.push(char);
      this.#state = char === '{' ? 'first key' : 'first item';
      return this.#open.length <= MAX_DEPTH ? 'more' : 'wrong';
    }
    const literal = LITERALS[char];
    if (char === '"') this.#state = 'string';
    else if (literal !== undefined) {
      this.#state = 'literal';
      this.#word = literal.slice(1);
    } else if (/[\d-]/.test(char)) {
      this.#state = 'number';
      this.#word = char;
    } else return 'wrong';
    return 'more';
  }

  #close(bracket: '{' | '['): Scanned {
    return this.#open.pop() === bracket ? this.#done('last') : 'wrong';
  }

  /** A value is complete: the whole one, or one inside of it. */
  #done(whole: 'last' | 'over'): Scanned {
    this.#state = 'next';
    return this.#open.length === 0 ? whole : 'more';
  }
}
