import { randomUUID } from 'node:crypto';

/** A string, or a number: strings first, so that digits within them are passed over. */
const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/gs;
/** Numbers of fewer digits are below 2^53. */
const LONG_INTEGER = /^-?\d{16,}$/;

/** As `JSON.parse`, but integers beyond ±(2^53 - 1) are bigints: Dynamo writes its ids and hashes as JSON numbers of 64 bits. Throws `SyntaxError`. */
export function parseJson(text: string): unknown {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  // No text can hold a mark that is drawn only now.
  const mark = `${randomUUID()}:`;
  const marked = text.replace(STRING_OR_NUMBER, (token) =>
    LONG_INTEGER.test(token) && !Number.isSafeInteger(Number(token)) ? `"${mark}${token}"` : token,
  );
  return JSON.parse(marked, (_key, value) =>
    typeof value === 'string' && value.startsWith(mark) ? BigInt(value.slice(mark.length)) : value,
  );
}

/** As `JSON.stringify` of plain data, but bigints are written as numbers. */
export function writeJson(value: unknown): string {
  try {
    // Most data has no bigint, at which this throws, and the rest would cost several times as much.
    return JSON.stringify(value);
  } catch {
    return written(value);
  }
}

function written(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return JSON.stringify(value ?? null);
  if (Array.isArray(value)) return `[${value.map(written).join(',')}]`;
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${written(entry)}`).join(',')}}`;
}
