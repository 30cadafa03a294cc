import { stripVTControlCharacters } from 'node:util';
import * as z from 'zod';

const Failure = z.object({
  /** '' = unknown. */
  file: z.string(),
  line: z.number().int().nullable(),
  /** With the groups it is in; '' = none: the file itself, or the whole run. */
  title: z.string(),
  message: z.string(),
});
/** One error of a test, or of what is around the tests. */
export type Failure = z.infer<typeof Failure>;

const VitestReport = z.object({ failures: z.array(Failure) });

const Problem = z.object({
  message: z.string().default(''),
  location: z.object({ line: z.number().int() }).optional(),
});
const Attempt = z.object({ errors: z.array(Problem) });
const Spec = z.object({
  title: z.string(),
  file: z.string(),
  tests: z.array(z.object({ status: z.string(), results: z.array(Attempt) })),
});
const Suite = z.object({
  title: z.string(),
  specs: z.array(Spec),
  get suites() {
    return z.array(Suite).optional();
  },
});
const PlaywrightReport = z.object({ suites: z.array(Suite), errors: z.array(Problem) });

/** What failed by the report of vitest-report.ts. */
export function vitestFailures(report: unknown): Failure[] {
  return VitestReport.parse(report).failures;
}

/** What failed by Playwright's JSON report, with the first error of each test. A flaky test is a failed one. */
export function playwrightFailures(report: unknown): Failure[] {
  const { suites, errors } = PlaywrightReport.parse(report);
  const failure = (file: string, title: string, problem: z.infer<typeof Problem> = Problem.parse({})): Failure => ({
    file,
    line: problem.location?.line ?? null,
    title,
    message: problem.message,
  });
  const below = (suite: z.infer<typeof Suite>, groups: readonly string[]): Failure[] => [
    ...suite.specs.flatMap(({ file, title, tests }) =>
      tests
        .filter(({ status }) => status === 'unexpected' || status === 'flaky')
        .map(({ results }) => failure(file, [...groups, title].join(' > '), results.flatMap((each) => each.errors)[0])),
    ),
    ...(suite.suites ?? []).flatMap((inner) => below(inner, [...groups, inner.title])),
  ];
  return [...suites.flatMap((file) => below(file, [])), ...errors.map((problem) => failure('', '', problem))];
}

export interface PartFailures {
  readonly part: string;
  /** What went wrong with the part as a whole; null = nothing. */
  readonly problem: string | null;
  readonly failures: readonly Failure[];
}

const MOST_FAILURES = 20;
const MOST_CHARACTERS = 300;

/** What failed, for the end of the output, of which often only the end is kept: 20 errors at most, of 300 characters each. */
export function failureLines(parts: readonly PartFailures[]): string[] {
  const told = parts.flatMap(({ part, problem, failures }) => [
    ...failures.map(({ file, line, title, message }) => {
      const place = [file, line].filter(Boolean).join(':');
      return `${[part, place, title].filter(Boolean).join(' > ')}\n    ${shortened(message)}`;
    }),
    ...(problem === null ? [] : [`${part}: ${problem}`]),
  ]);
  const more = told.length - MOST_FAILURES;
  return [...told.slice(0, MOST_FAILURES), ...(more > 0 ? [`and ${more} more`] : [])];
}

function shortened(message: string): string {
  const plain = stripVTControlCharacters(message).trim() || 'no message';
  const cut = plain.length > MOST_CHARACTERS ? `${plain.slice(0, MOST_CHARACTERS)}...` : plain;
  return cut.replaceAll(/\n\s*/g, '\n    ');
}
