import { MAX_NAME } from './call-object.ts';
import { escapeJson } from './json-value.ts';
import { Mismatch, type Read, Reader } from './reader.ts';

const MAX_DEPTH = 64;
const MAX_NUMBER = 512;
const WORDS: Readonly<Record<string, string>> = {
  True: 'true',
  False: 'false',
  None: 'null',
  true: 'true',
  false: 'false',
  null: 'null',
};
const CLOSING: Readonly<Record<string, string>> = { '[': ']', '(': ')' };
/** Escapes of Python's strings that stand for one character (Python Language Reference, 2.4.1). */
const ESCAPES: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

type Out = (text: string) => void;

/** Reads a Python literal and gives `out` the same value as JSON, as it comes. Throws `Mismatch` for anything that is no literal, or has no like in JSON. */
export function* pythonValue(reader: Reader, out: Out, depth = 0): Read<void> {
  const char = yield* reader.peek();
  if (depth > MAX_DEPTH) throw new Mismatch();
  if (char === '"' || char === "'") yield* pythonString(reader, out);
  else if (char === '[' || char === '(') yield* list(reader, out, depth);
  else if (char === '{') yield* dictionary(reader, out, depth);
  else if (/[\d.+-]/.test(char)) out(number(yield* run(reader, /[\w.+-]/, MAX_NUMBER)));
  else {
    const word = WORDS[yield* pythonName(reader)];
    if (word === undefined) throw new Mismatch();
    out(word);
  }
}

/** A whole text as JSON; null where it is no Python literal. */
export function pythonToJson(text: string): string | null {
  const reader = new Reader();
  reader.feed(text);
  reader.end();
  let json = '';
  try {
    // The text is all there: it never waits.
    pythonValue(reader, (piece) => {
      json += piece;
    }).next();
  } catch (error) {
    if (error instanceof Mismatch) return null;
    throw error;
  }
  return reader.rest === '' ? json : null;
}

/** Reads a name, with dots where it has them. Throws `Mismatch` where there is none. */
export function* pythonName(reader: Reader): Read<string> {
  const name = yield* run(reader, /[\p{L}\p{N}_.]/u, MAX_NAME);
  if (!/^[\p{L}_]/u.test(name)) throw new Mismatch();
  return name;
}

function* run(reader: Reader, kind: RegExp, limit: number): Read<string> {
  let text = '';
  for (let char = yield* reader.peek(); char !== '' && kind.test(char); char = yield* reader.peek()) {
    if (text.length === limit) throw new Mismatch();
    text += char;
    reader.skip(1);
  }
  return text;
}

function number(text: string): string {
  const [, sign, whole, rest] = /^([+-]?)(\d[\d_]*|)((?:\.\d*)?(?:[eE][+-]?\d+)?)$/.exec(text) ?? [];
  if (whole === undefined || rest === undefined || (whole === '' && !/^\.\d/.test(rest))) throw new Mismatch();
  // JSON has no leading zeros, no bare dot and no plus.
  const digits = whole.replaceAll('_', '').replace(/^0+(?=\d)/, '') || '0';
  return `${sign === '-' ? '-' : ''}${digits}${rest.replace(/^\.(?!\d)/, '')}`;
}

function* list(reader: Reader, out: Out, depth: number): Read<void> {
  const close = CLOSING[yield* reader.peek()] ?? '';
  reader.skip(1);
  out('[');
  yield* items(reader, close, out, () => pythonValue(reader, out, depth + 1));
  out(']');
}

function* dictionary(reader: Reader, out: Out, depth: number): Read<void> {
  reader.skip(1);
  out('{');
  yield* items(reader, '}', out, function* () {
    yield* pythonString(reader, out);
    yield* reader.spaces();
    yield* reader.expect(':');
    out(': ');
    yield* reader.spaces();
    yield* pythonValue(reader, out, depth + 1);
  });
  out('}');
}

function* items(reader: Reader, close: string, out: Out, item: () => Read<void>): Read<void> {
  yield* reader.spaces();
  let first = true;
  while ((yield* reader.accept(close)) === null) {
    if (!first) out(', ');
    first = false;
    yield* item();
    yield* reader.spaces();
    if ((yield* reader.accept(',')) === null) {
      yield* reader.expect(close);
      return;
    }
    yield* reader.spaces();
  }
}

function* pythonString(reader: Reader, out: Out): Read<void> {
  const quote = yield* reader.accept('"', "'");
  if (quote === null) throw new Mismatch();
  out('"');
  for (;;) {
    const end: string | null = yield* reader.through([quote, '\\'], (text) => out(escapeJson(text)));
    if (end === null) throw new Mismatch();
    if (end === quote) break;
    out(escapeJson(yield* escaped(reader)));
  }
  out('"');
}

/** What an escape stands for, its backslash read. Python leaves the backslash where it knows no such escape. */
function* escaped(reader: Reader): Read<string> {
  const char = yield* reader.peek();
  if (char === '') throw new Mismatch();
  if (/[0-7]/.test(char)) return String.fromCharCode(Number.parseInt(yield* upTo(reader, /[0-7]/, 3), 8));
  reader.skip(1);
  const digits = HEX_DIGITS[char];
  if (digits === undefined) return ESCAPES[char] ?? `\\${char}`;
  const hex = yield* upTo(reader, /[\da-fA-F]/, digits);
  const code = Number.parseInt(hex, 16);
  if (hex.length < digits || code > 0x10ffff) throw new Mismatch();
  return String.fromCodePoint(code);
}

function* upTo(reader: Reader, kind: RegExp, most: number): Read<string> {
  let text = '';
  while (text.length < most && kind.test(yield* reader.peek())) text += yield* next(reader);
  return text;
}

function* next(reader: Reader): Read<string> {
  const char = yield* reader.peek();
  reader.skip(1);
  return char;
}
