import { expect, test } from 'vitest';
import { type Failure, failureLines, playwrightFailures, vitestFailures } from '../../../scripts/test-failures.ts';

const failure = (title: string, message = 'why'): Failure => ({ file: 'test/a.test.ts', line: 7, title, message });

test("vitest's failures are those of our reporter; a report without them is refused", () => {
  const failures = [failure('a > b')];
  expect(vitestFailures({ numFailedTests: 1, failures })).toEqual(failures);
  expect(() => vitestFailures({ numFailedTests: 1 })).toThrow();
});

test("Playwright's failures: in groups, flaky ones, ones without an error, and those of the whole run", () => {
  const spec = (title: string, status: string, ...results: object[][]) => ({
    ...{ title, file: 'a.spec.ts', tests: [{ status, results: results.map((errors) => ({ errors })) }] },
  });
  const first = { message: 'first', location: { file: '/a.spec.ts', line: 3, column: 1 } };
  const group = { title: 'group', specs: [spec('inner', 'unexpected', [first, { message: 'second' }])] };
  const specs = [
    spec('good', 'expected', []),
    spec('skipped', 'skipped'),
    spec('flaky', 'flaky', [{ message: 'once' }], []),
    spec('passed against expectation', 'unexpected', []),
  ];
  const report = { suites: [{ title: 'a.spec.ts', specs, suites: [group] }], errors: [{ message: 'no set-up' }] };
  expect(playwrightFailures(report)).toEqual([
    { file: 'a.spec.ts', line: null, title: 'flaky', message: 'once' },
    { file: 'a.spec.ts', line: null, title: 'passed against expectation', message: '' },
    { file: 'a.spec.ts', line: 3, title: 'group > inner', message: 'first' },
    { file: '', line: null, title: '', message: 'no set-up' },
  ]);
});

test('part, place, title and message are told, without colours', () => {
  const stray = { file: '', line: null, title: 'an error outside all tests', message: '' };
  expect(
    failureLines([
      { part: 'unit', problem: null, failures: [] },
      {
        part: 'cluster',
        problem: null,
        failures: [failure('a > b', '\u001b[31mexpected 1\u001b[39m\n\n  to be 2\n'), stray],
      },
      { part: 'gpu', problem: 'no test ran', failures: [] },
    ]),
  ).toEqual([
    'cluster > test/a.test.ts:7 > a > b\n    expected 1\n    to be 2',
    'cluster > an error outside all tests\n    no message',
    'gpu: no test ran',
  ]);
});

test('many failures with long messages stay short', () => {
  const failures = Array.from({ length: 23 }, (_, i) => failure(`test ${i}`, 'x'.repeat(5000)));
  const lines = failureLines([{ part: 'unit', problem: null, failures }]);
  expect(lines).toHaveLength(21);
  expect(lines[19]).toContain('test 19');
  expect(lines[20]).toBe('and 3 more');
  for (const line of lines) expect(line.length).toBeLessThan(400);
});

test('nothing failed, nothing is told', () => {
  expect(failureLines([{ part: 'unit', problem: null, failures: [] }])).toEqual([]);
});
