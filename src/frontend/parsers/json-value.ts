import { JsonScanner } from './json-scanner.ts';
import { Mismatch, type Read, type Reader } from './reader.ts';

/**
 * Reads one JSON value and gives it to `out` as it comes. Control characters that stand raw inside of strings, as models write them, are
 * escaped; all else stays as it was written. Throws `Mismatch` where it is no JSON, or ends too soon.
 */
export function* jsonValue(reader: Reader, out: (text: string) => void): Read<void> {
  const scanner = new JsonScanner();
  while (yield* reader.more()) {
    const { rest } = reader;
    let written = '';
    let from = 0;
    for (let at = 0; at < rest.length; at++) {
      const char = rest.charAt(at);
      const raw = scanner.inString && char < ' ';
      const scanned = scanner.push(char);
      if (raw) {
        written += rest.slice(from, at) + escapeJson(char);
        from = at + 1;
      }
      if (scanned === 'more') continue;
      const end = scanned === 'last' ? at + 1 : at;
      out(written + rest.slice(from, end));
      reader.skip(end);
      if (scanned === 'wrong') throw new Mismatch();
      return;
    }
    out(written + rest.slice(from));
    reader.skip(rest.length);
  }
  if (!scanner.ends()) throw new Mismatch();
}

/** Reads a JSON string of at most `limit` characters, escapes and quotes counted. Throws `Mismatch` where there is none. */
export function* jsonString(reader: Reader, limit: number): Read<string> {
  if ((yield* reader.peek()) !== '"') throw new Mismatch();
  let text = '';
  yield* jsonValue(reader, (piece) => {
    text += piece;
    if (text.length > limit) throw new Mismatch();
  });
  return JSON.parse(text) as string;
}

/** `text` as it stands inside of a JSON string. Leaves halves of surrogate pairs alone, unlike `JSON.stringify`: the other half may come. */
export function escapeJson(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what JSON forbids inside of strings
  return text.replace(/["\\\u0000-\u001f]/g, (char) => JSON.stringify(char).slice(1, -1));
}
