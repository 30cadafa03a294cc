import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { promisify } from 'node:util';
import { expect, test } from '@playwright/test';
import { READY_MS, ROOT } from './fixture.ts';

/** What `npm start` runs, in a process group of its own, as a terminal gives it. */
interface Started {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly exited: Promise<number | null>;
}

const running: Started[] = [];

function start(
  flags: readonly string[],
  command = ['npm', 'start', '--'],
  env: NodeJS.ProcessEnv = process.env,
): Started {
  const [program, ...rest] = command;
  const child = spawn(program!, [...rest, ...flags], {
    cwd: ROOT,
    detached: true,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exited = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  const started = { child, output: () => output, exited };
  running.push(started);
  return started;
}

const DIRECT = [process.execPath, '--import', 'tsx', 'src/hub/main.ts'];

test.afterEach(() => {
  for (const { child } of running.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!, 'SIGKILL');
  }
});

async function said(started: Started, pattern: RegExp): Promise<RegExpExecArray> {
  await expect.poll(started.output, { timeout: READY_MS }).toMatch(pattern);
  return pattern.exec(started.output())!;
}

/** Processes that live (zombies do not), by id. */
function living(): Map<number, { parent: number; command: string }> {
  const lines = execFileSync('ps', ['-eo', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' }).trim().split('\n');
  const fields = lines.map((line) => line.trim().split(/\s+/)).filter(([, , stat]) => !stat?.startsWith('Z'));
  return new Map(
    fields.map(([pid, parent, , ...command]) => [Number(pid), { parent: Number(parent), command: command.join(' ') }]),
  );
}

/** All living descendants of a process. */
function descendants(root: number): number[] {
  const all = living();
  const found = [root];
  for (const id of found) for (const [pid, { parent }] of all) if (parent === id) found.push(pid);
  return found.slice(1);
}

const browsersOf = (started: Started): number[] => {
  const all = living();
  return descendants(started.child.pid!).filter((pid) => /chrom|msedge/i.test(all.get(pid)?.command ?? ''));
};

async function expectGone(pids: readonly number[]): Promise<void> {
  await expect.poll(() => pids.filter((pid) => living().has(pid)), { timeout: 10_000 }).toEqual([]);
}

/** Temporary profiles of browsers; there is at least one. */
function profilesOf(browsers: readonly number[]): string[] {
  const all = living();
  const named = browsers.flatMap((pid) => /--user-data-dir=(\S+)/.exec(all.get(pid)?.command ?? '')?.[1] ?? []);
  expect(named.filter((profile) => existsSync(profile))).not.toEqual([]);
  return named;
}

test('npm start ends in a banner whose curl line works, and Ctrl-C ends it all', async () => {
  const hub = start(['--http-port', '0']);
  await said(hub, /Ctrl-C ends it all/);
  const [, url] = await said(hub, /Page +(http:\/\/127\.0\.0\.1:\d+)/);
  await said(hub, /node 1: ready/);
  const { nodes } = (await (await fetch(`${url}/cluster/state`)).json()) as { nodes: { stage: string }[] };
  expect(nodes.map(({ stage }) => stage)).toEqual(['ready']);

  const [curl] = await said(hub, /curl .*/);
  const { stdout } = await promisify(execFile)('bash', ['-c', curl]);
  expect(JSON.parse(stdout).choices[0].message.content).toContain('42');

  const browsers = browsersOf(hub);
  expect(browsers.length).toBeGreaterThan(2);
  process.kill(-hub.child.pid!, 'SIGINT');
  await hub.exited;
  expect(hub.output()).toContain('Stopping');
  await expectGone(browsers);
});

test('a second Ctrl-C ends a hub at once, in the middle of a stream', async () => {
  const hub = start(['--http-port', '0', '--graceful-shutdown-grace-period-secs', '120'], DIRECT);
  await said(hub, /Ctrl-C ends it all/);
  const [, url] = await said(hub, /Page +(http:\S+)/);
  const body = { model: 'quire-pico', prompt: 'Once', max_tokens: 1500, ignore_eos: true, stream: true };
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body: JSON.stringify(body) });
  const reader = answer.body!.getReader();
  await reader.read();
  const browsers = browsersOf(hub);
  const profiles = profilesOf(browsers);
  process.kill(hub.child.pid!, 'SIGINT');
  await said(hub, /Stopping/);
  const late = await Promise.race([hub.exited, new Promise((resolve) => setTimeout(resolve, 1000, 'runs'))]);
  expect(late).toBe('runs');
  process.kill(hub.child.pid!, 'SIGINT');
  expect(await hub.exited).toBe(130);
  await reader.cancel().catch(() => {});
  await expectGone(browsers);
  expect(profiles.filter((profile) => existsSync(profile))).toEqual([]);
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`no browser outlives a hub that got ${signal}`, async () => {
    const hub = start(['--http-port', '0', '--nodes', '2'], DIRECT);
    await said(hub, /node 2: /);
    const browsers = browsersOf(hub);
    expect(browsers.length).toBeGreaterThan(2);
    const profiles = profilesOf(browsers);
    process.kill(hub.child.pid!, signal);
    expect(await hub.exited).toBe(signal === 'SIGTERM' ? 0 : null);
    await expectGone(browsers);
    // Nothing is left that could remove them after SIGKILL.
    if (signal === 'SIGTERM') expect(profiles.filter((profile) => existsSync(profile))).toEqual([]);
  });
}

test('without any Chromium the hub runs all the same, and says which one command installs one', async () => {
  const env = { ...process.env, PATH: '/nowhere', PLAYWRIGHT_BROWSERS_PATH: '/nowhere', QUIRE_CHROMIUM: '', CI: '' };
  const hub = start(['--http-port', '0'], DIRECT, env);
  await said(hub, /npx playwright install --no-shell (--with-deps )?chromium/);
  const [, url] = await said(hub, /Page +(http:\S+)/);
  expect(hub.output()).toContain('none here yet');
  expect((await fetch(`${url}/live`)).status).toBe(200);
  process.kill(hub.child.pid!, 'SIGTERM');
  expect(await hub.exited).toBe(0);
});

test('what cannot be is one clear line and exit code 2', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  const cases: [string[], RegExp][] = [
    [['--http-port', String(port), '--nodes', '0'], /port is taken/],
    [['--model', 'nowhere'], /--model nowhere: there is no such folder/],
    [['--max-num-seq', '4'], /nearest is --max-num-seqs/],
    [['--nodes', 'prefill=1,decoder=2'], /some for each role such as prefill=1,decode=2/],
    [['--chromium', '/nowhere/chrome'], /no browser at \/nowhere\/chrome/],
  ];
  await Promise.all(
    cases.map(async ([flags, line]) => {
      const hub = start(flags, DIRECT);
      expect(await hub.exited, flags.join(' ')).toBe(2);
      expect(hub.output().trim()).toMatch(line);
      expect(hub.output().trim().split('\n')).toHaveLength(1);
    }),
  );
  await new Promise((resolve) => taken.close(resolve));
});
