/**
 * `npm test [-- unit gpu cluster interop e2e [arguments of the runner]]`: all parts, or those that are named. Installs Chromium where
 * there is none, and ends with what failed and the line `N passed, N failed`. A part that crashes or runs nothing counts as one failure.
 * `interop` needs NVIDIA Dynamo, which is installed into .cache; where that cannot be it is left out, unless it is named.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureChromium } from '../src/hub/launch/install-chromium.ts';
import { thisInstaller } from '../src/hub/launch/installer.ts';
import { installDynamo } from './dynamo-venv.ts';
import { type Counts, playwrightCounts, summary, verdict, vitestCounts } from './test-counts.ts';
import { type Failure, failureLines, type PartFailures, playwrightFailures, vitestFailures } from './test-failures.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const reports = path.join(root, 'test-results');

interface Part {
  readonly name: string;
  readonly command: readonly string[];
  readonly needsChromium: boolean;
  readonly needsDynamo: boolean;
  readonly read: (report: unknown) => Result;
}

interface Result {
  readonly counts: Counts;
  readonly failures: readonly Failure[];
}

const vitestResult = (report: unknown): Result => ({ counts: vitestCounts(report), failures: vitestFailures(report) });
const playwrightResult = (report: unknown): Result => ({
  counts: playwrightCounts(report),
  failures: playwrightFailures(report),
});

const vitest = (name: string, ...prefix: string[]): Part => {
  const reporters = ['--reporter=default', '--reporter=./scripts/vitest-report.ts'];
  const report = `--outputFile.json=test-results/${name}.json`;
  const command = [...prefix, 'vitest', 'run', '--project', name, ...reporters, report];
  const needsDynamo = name === 'interop';
  return { name, command, needsChromium: prefix.length > 0 || needsDynamo, needsDynamo, read: vitestResult };
};

const PARTS: readonly Part[] = [
  vitest('unit'),
  vitest('cluster'),
  vitest('gpu', 'tsx', 'scripts/with-gpu.ts'),
  vitest('interop'),
  { name: 'e2e', command: ['playwright', 'test'], needsChromium: true, needsDynamo: false, read: playwrightResult },
];

const args = process.argv.slice(2);
const named = PARTS.filter((part) => args.includes(part.name));
const rest = args.filter((arg) => !named.some((part) => part.name === arg));
if (rest.length > 0 && named.length !== 1) {
  const names = PARTS.map((part) => part.name).join(', ');
  console.error(`${rest.join(' ')}: arguments of a runner go with one part by name: ${names}.`);
  process.exit(2);
}
const dynamoMissing = (named.length > 0 ? named : PARTS).some((part) => part.needsDynamo) ? missingDynamo() : null;
if (dynamoMissing !== null) {
  console.error(`interop ${named.length > 0 ? 'cannot run' : 'is left out'}: ${dynamoMissing}`);
  if (named.length > 0) process.exit(2);
}
const parts = named.length > 0 ? named : PARTS.filter((part) => dynamoMissing === null || !part.needsDynamo);
if (parts.some((part) => part.needsChromium)) {
  const choice = { named: process.env.QUIRE_CHROMIUM || null, yes: process.env.CI === 'true' };
  if ((await ensureChromium(thisInstaller, choice)) === null) {
    console.error('No Chromium: the parts gpu and e2e cannot run, so nothing is tested.');
    process.exit(2);
  }
}

mkdirSync(reports, { recursive: true });
const all: Counts[] = [];
const failed: PartFailures[] = [];
for (const { name, command, read } of parts) {
  const report = path.join(reports, `${name}.json`);
  rmSync(report, { force: true });
  console.log(`\n== ${name}`);
  const PATH = `${path.join(root, 'node_modules/.bin')}${path.delimiter}${process.env.PATH}`;
  const { status } = spawnSync(command[0]!, [...command.slice(1), ...rest], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PATH },
    shell: process.platform === 'win32',
  });
  const result = readReport(report, read);
  const { counts, problem } = verdict(result?.counts ?? null, status);
  all.push(counts);
  failed.push({ part: name, problem, failures: result?.failures ?? [] });
}
const lines = failureLines(failed);
if (lines.length > 0) console.log(`\nWhat failed:\n${lines.join('\n')}`);
const total = summary(all);
console.log(`\n${total.line}`);
process.exit(total.failed > 0 ? 1 : 0);

/** Why Dynamo cannot be had; null = it is there now. */
function missingDynamo(): string | null {
  try {
    installDynamo();
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function readReport(file: string, read: (report: unknown) => Result): Result | null {
  try {
    return read(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return null;
  }
}
