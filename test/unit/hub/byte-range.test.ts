import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRange } from '../../../src/hub/byte-range.ts';

describe('parseRange (RFC 9110, 14.1.2)', () => {
  it.each([
    ['bytes=0-499', 10_000, { first: 0, last: 499 }],
    ['bytes=500-999', 10_000, { first: 500, last: 999 }],
    ['bytes=-500', 10_000, { first: 9500, last: 9999 }],
    ['bytes=9500-', 10_000, { first: 9500, last: 9999 }],
    ['bytes=0-0', 10_000, { first: 0, last: 0 }],
    ['bytes=-20000', 10_000, { first: 0, last: 9999 }],
    ['bytes=9999-20000', 10_000, { first: 9999, last: 9999 }],
    ['bytes=10000-', 10_000, 'unsatisfiable'],
    ['bytes=-0', 10_000, 'unsatisfiable'],
    ['bytes=0-', 0, 'unsatisfiable'],
    ['bytes=5-4', 10_000, null],
    ['bytes=-', 10_000, null],
    ['bytes=0-1,4-5', 10_000, null],
    ['lines=0-1', 10_000, null],
    ['bytes=a-b', 10_000, null],
    ['bytes=-1-5', 10_000, null],
    [undefined, 10_000, null],
  ])('%s of %i bytes', (header, size, range) => {
    expect(parseRange(header, size)).toEqual(range);
  });

  it('never points outside the file, whatever the header', () => {
    const header = fc.oneof(
      fc.string(),
      fc.tuple(fc.nat(), fc.nat()).map(([a, b]) => `bytes=${a}-${b}`),
      fc.stringMatching(/^bytes=\d*-\d*$/),
    );
    fc.assert(
      fc.property(header, fc.nat(1000), (text, size) => {
        const range = parseRange(text, size);
        if (range === null || range === 'unsatisfiable') return;
        expect(range.first).toBeGreaterThanOrEqual(0);
        expect(range.last).toBeGreaterThanOrEqual(range.first);
        expect(range.last).toBeLessThan(size);
      }),
    );
  });
});
