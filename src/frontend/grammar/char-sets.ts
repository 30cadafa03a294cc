import type { CharSet } from './ebnf.ts';

/** Every character of Unicode; halves of surrogate pairs are none. */
export const ANY: CharSet = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];
export const DIGIT: CharSet = [[0x30, 0x39]];
/** ECMA-262's \w. */
export const WORD: CharSet = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** ECMA-262's \s. */
export const SPACE: CharSet = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
/** What ECMA-262's `.` leaves out. */
export const LINE_ENDS: CharSet = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];

export const one = (char: string): CharSet => [[char.codePointAt(0)!, char.codePointAt(0)!]];

/** Sorted, with what touches or overlaps in one range. */
export function union(...sets: readonly CharSet[]): CharSet {
  const sorted = sets.flat().sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [first, last] of sorted) {
    const before = merged.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}

/** What of `a` is not in `b`. */
export function without(a: CharSet, b: CharSet): CharSet {
  let left = a.map(([first, last]): [number, number] => [first, last]);
  for (const [from, to] of b) {
    left = left.flatMap(([first, last]) => {
      if (to < first || from > last) return [[first, last] as [number, number]];
      const parts: [number, number][] = [];
      if (first < from) parts.push([first, from - 1]);
      if (to < last) parts.push([to + 1, last]);
      return parts;
    });
  }
  return left;
}

export const has = (chars: CharSet, code: number): boolean =>
  chars.some(([first, last]) => first <= code && code <= last);
