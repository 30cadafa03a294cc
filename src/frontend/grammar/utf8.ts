import type { CharSet } from './ebnf.ts';

/** Bytes from the first to the last. */
export type ByteRange = readonly [first: number, last: number];

/** First and last code points of the lengths that UTF-8 has beyond one byte; halves of surrogate pairs are none. */
const LENGTHS: CharSet = [
  [0x80, 0x7ff],
  [0x800, 0xd7ff],
  [0xe000, 0xffff],
  [0x10000, 0x10ffff],
];

/** The UTF-8 of all characters of a range beyond ASCII, as sequences of ranges of bytes. */
export function utf8Ranges(first: number, last: number): ByteRange[][] {
  return LENGTHS.flatMap(([from, to]) => {
    const [low, high] = [Math.max(first, from), Math.min(last, to)];
    return low > high ? [] : split(bytesOf(low), bytesOf(high));
  });
}

const bytesOf = (code: number): number[] => [...new TextEncoder().encode(String.fromCodePoint(code))];

/** Sequences of one length, from `a` to `b` in the order of their bytes; after the first byte each is a continuation. */
function split(a: readonly number[], b: readonly number[]): ByteRange[][] {
  const [first, last] = [a[0]!, b[0]!];
  const [restA, restB] = [a.slice(1), b.slice(1)];
  if (restA.length === 0) return [[[first, last]]];
  if (first === last) return split(restA, restB).map((tail) => [[first, last], ...tail]);
  const lowest = restA.map(() => 0x80);
  const highest = restA.map(() => 0xbf);
  const low = restA.every((byte) => byte === 0x80) ? first : first + 1;
  const high = restB.every((byte) => byte === 0xbf) ? last : last - 1;
  const result: ByteRange[][] = [];
  if (low > first) for (const tail of split(restA, highest)) result.push([[first, first], ...tail]);
  if (low <= high) result.push([[low, high], ...lowest.map((byte): ByteRange => [byte, 0xbf])]);
  if (high < last) for (const tail of split(lowest, restB)) result.push([[last, last], ...tail]);
  return result;
}
