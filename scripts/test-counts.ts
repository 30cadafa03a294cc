import * as z from 'zod';

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const count = z.number().int().min(0);
const VitestReport = z.object({
  numPassedTests: count,
  numFailedTests: count,
  numPendingTests: count,
  numTodoTests: count,
});
const PlaywrightReport = z.object({
  stats: z.object({ expected: count, unexpected: count, flaky: count, skipped: count }),
});

/** Counts of vitest's JSON report. */
export function vitestCounts(report: unknown): Counts {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = VitestReport.parse(report);
  return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests };
}

/** Counts of Playwright's JSON report. A flaky test is a failed one. */
export function playwrightCounts(report: unknown): Counts {
  const { expected, unexpected, flaky, skipped } = PlaywrightReport.parse(report).stats;
  return { passed: expected, failed: unexpected + flaky, skipped };
}

/**
 * What a part of the tests comes to: `counts` from its report (null = it wrote none), `status` its exit code (null = killed).
 * Whatever went wrong without a failed test to show for it is one failure.
 */
export function verdict(counts: Counts | null, status: number | null): { counts: Counts; problem: string | null } {
  if (counts === null) {
    const problem = `ended with ${status === null ? 'a signal' : `exit code ${status}`} and without a report`;
    return { counts: { passed: 0, failed: 1, skipped: 0 }, problem };
  }
  if (counts.failed > 0) return { counts, problem: null };
  if (status !== 0) {
    const problem = `no test failed, but it ended with ${status === null ? 'a signal' : `exit code ${status}`}`;
    return { counts: { ...counts, failed: 1 }, problem };
  }
  if (counts.passed === 0) return { counts: { ...counts, failed: 1 }, problem: 'no test ran' };
  return { counts, problem: null };
}

/** The last line of a test run. */
export function summary(parts: readonly Counts[]): { readonly line: string; readonly failed: number } {
  const sum = (key: keyof Counts) => parts.reduce((total, part) => total + part[key], 0);
  const skipped = sum('skipped');
  const failed = sum('failed');
  return { line: `${sum('passed')} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`, failed };
}
