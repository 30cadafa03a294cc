import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { closeReason } from '../../../src/protocol/close-codes.ts';

const bytes = (text: string) => new TextEncoder().encode(text).length;

test('a short reason is carried whole', () => {
  expect(closeReason('')).toBe('');
  expect(closeReason('a'.repeat(123))).toBe('a'.repeat(123));
});

test('a long one ends after a word', () => {
  const reason = closeReason(`The GPU device was lost: ${'nobody knows why '.repeat(20)}`);
  expect(reason).toMatch(/^The GPU device was lost: .*\w…$/);
  expect(bytes(reason)).toBeGreaterThan(100);
});

test('no reason is more than a close frame can hold, nor half a character of it', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 400 }), (text) => {
      const reason = closeReason(text);
      expect(bytes(reason)).toBeLessThanOrEqual(123);
      if (reason !== text) expect(text.startsWith(reason.slice(0, -1))).toBe(true);
    }),
  );
});
