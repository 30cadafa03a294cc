/**
 * `npm test [-- unit gpu cluster e2e]`: all parts, or those that are named. Installs Chromium where there is none, and ends with
 * the line `N passed, N failed`. A part that crashes or runs nothing counts as one failure.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureChromium } from '../src/hub/launch/install-chromium.ts';
import { thisInstaller } from '../src/hub/launch/installer.ts';
import { type Counts, playwrightCounts, summary, verdict, vitestCounts } from './test-counts.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const reports = path.join(root, 'test-results');

interface Part {
  readonly command: string;
  readonly needsChromium: boolean;
  readonly count: (report: unknown) => Counts;
}

const vitest = (project: string, prefix = ''): Part => ({
  command: `${prefix}vitest run --project ${project} --reporter=default --reporter=json --outputFile.json=test-results/${project}.json`,
  needsChromium: prefix !== '',
  count: vitestCounts,
});

const PARTS: Readonly<Record<string, Part>> = {
  unit: vitest('unit'),
  cluster: vitest('cluster'),
  gpu: vitest('gpu', 'tsx scripts/with-gpu.ts '),
  e2e: { command: 'playwright test', needsChromium: true, count: playwrightCounts },
};

const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(PARTS);
const unknown = names.find((name) => !Object.hasOwn(PARTS, name));
if (unknown !== undefined) {
  console.error(`${unknown}: no such part. There are ${Object.keys(PARTS).join(', ')}.`);
  process.exit(2);
}

const parts = names.map((name) => ({ name, ...PARTS[name]! }));
if (parts.some((part) => part.needsChromium)) {
  const named = process.env.QUIRE_CHROMIUM || null;
  if ((await ensureChromium(thisInstaller, { named, yes: process.env.CI === 'true' })) === null) {
    console.error('No Chromium: the parts gpu and e2e cannot run, so nothing is tested.');
    process.exit(2);
  }
}

mkdirSync(reports, { recursive: true });
const all: Counts[] = [];
for (const { name, command, count } of parts) {
  const report = path.join(reports, `${name}.json`);
  rmSync(report, { force: true });
  console.log(`\n== ${name}`);
  const PATH = `${path.join(root, 'node_modules/.bin')}${path.delimiter}${process.env.PATH}`;
  const { status } = spawnSync(command, { cwd: root, shell: true, stdio: 'inherit', env: { ...process.env, PATH } });
  const result = verdict(read(report, count), status);
  if (result.problem) console.error(`${name}: ${result.problem}`);
  all.push(result.counts);
}
const total = summary(all);
console.log(`\n${total.line}`);
process.exit(total.failed > 0 ? 1 : 0);

function read(file: string, count: (report: unknown) => Counts): Counts | null {
  try {
    return count(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return null;
  }
}
