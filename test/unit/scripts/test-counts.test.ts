import { expect, test } from 'vitest';
import { playwrightCounts, summary, verdict, vitestCounts } from '../../../scripts/test-counts.ts';

test('counts of both reports', () => {
  const vitest = { numPassedTests: 5, numFailedTests: 2, numPendingTests: 1, numTodoTests: 1, success: false };
  expect(vitestCounts(vitest)).toEqual({ passed: 5, failed: 2, skipped: 2 });
  const playwright = { stats: { expected: 3, unexpected: 1, flaky: 1, skipped: 0 } };
  expect(playwrightCounts(playwright)).toEqual({ passed: 3, failed: 2, skipped: 0 });
  expect(() => vitestCounts({})).toThrow();
});

test('whatever goes wrong without a failed test is a failure', () => {
  const good = { passed: 2, failed: 0, skipped: 0 };
  expect(verdict(good, 0)).toEqual({ counts: good, problem: null });
  expect(verdict(good, 1).counts.failed).toBe(1);
  expect(verdict(good, null).counts.failed).toBe(1);
  expect(verdict(null, 0).counts.failed).toBe(1);
  expect(verdict({ ...good, passed: 0 }, 0).counts.failed).toBe(1);
  expect(verdict({ ...good, failed: 3 }, 1)).toEqual({ counts: { ...good, failed: 3 }, problem: null });
});

test('the last line', () => {
  const parts = [
    { passed: 2, failed: 0, skipped: 0 },
    { passed: 3, failed: 1, skipped: 0 },
  ];
  expect(summary(parts)).toEqual({ line: '5 passed, 1 failed', failed: 1 });
  expect(summary([{ passed: 1, failed: 0, skipped: 4 }]).line).toBe('1 passed, 0 failed, 4 skipped');
});
