import { describe, expect, test } from 'vitest';
import { bytes, count, duration, milliseconds, percent, rate, since } from '../../../src/ui/format.ts';

describe('numbers as people read them', () => {
  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [999_949, '999.9 kB'],
    // Never "1000.0 kB".
    [999_950, '1.0 MB'],
    [11_549_832, '11.5 MB'],
    [2e15, '2,000.0 TB'],
  ])('%d bytes', (value, text) => expect(bytes(value)).toBe(text));

  test.each([
    [0, '0'],
    [0.04, '0'],
    [9.24, '9.2'],
    [99.94, '99.9'],
    [99.96, '100'],
    [1604.4, '1,604'],
  ])('%d a second', (value, text) => expect(rate(value)).toBe(text));

  test.each([
    [84.2, '84 ms'],
    [999.4, '999 ms'],
    [999.6, '1.0 s'],
    [12_340, '12.3 s'],
  ])('%d milliseconds', (value, text) => expect(milliseconds(value)).toBe(text));

  test.each([
    [0.2, '1 s'],
    [59.4, '59 s'],
    [59.6, '1 min'],
    [59.4 * 60, '59 min'],
    [3600, '1 h'],
  ])('%d seconds', (value, text) => expect(duration(value)).toBe(text));

  test.each([
    [-5000, 'now'],
    [999, 'now'],
    [1000, '1 s ago'],
    [200_000, '3 min ago'],
  ])('%d milliseconds ago', (ago, text) => expect(since(1e12 - ago, 1e12)).toBe(text));

  test('counts are grouped, and a part of nothing is 0 %', () => {
    expect(count(4096)).toBe('4,096');
    expect(percent(1, 3)).toBe('33 %');
    expect(percent(0, 0)).toBe('0 %');
  });
});
