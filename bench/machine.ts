import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { findChromium } from '../src/hub/launch/find-chromium.ts';
import { thisMachine } from '../src/hub/launch/machine.ts';

/** When, where and of what the figures were taken: the lines above the tables. */
export function surroundings(): string {
  const cpus = os.cpus();
  const chromium = findChromium(thisMachine, process.env.QUIRE_CHROMIUM ?? null);
  const { version: dawn } = JSON.parse(
    readFileSync(new URL('../node_modules/webgpu/package.json', import.meta.url), 'utf8'),
  ) as { version: string };
  return [
    `- ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC, commit ${commit()}`,
    `- ${cpus.length} x ${cpus[0]?.model.trim() ?? 'CPU'}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.platform()} ${os.arch()}`,
    `- Node ${process.versions.node}, npm webgpu (Dawn) ${dawn}, ${chromium === null ? 'no Chromium' : run(chromium, '--version')}`,
    `- ${loadLine('at the start')}`,
  ].join('\n');
}

/** Above the number of cores, other work took part of the machine and all figures are worse than the machine's own. */
export function loadLine(when: string): string {
  return `load average ${when}: ${os.loadavg()[0]?.toFixed(1)}`;
}

function commit(): string {
  try {
    const changed = run('git', 'status', '--porcelain', '--', 'src', 'shaders', 'package-lock.json') !== '';
    return run('git', 'rev-parse', '--short', 'HEAD') + (changed ? ' with changes' : '');
  } catch {
    return 'unknown: this is no git checkout, or there is no git';
  }
}

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}
