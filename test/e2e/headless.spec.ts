import { type ChildProcess, spawn } from 'node:child_process';
import { fingerprint, selfSigned } from '../../src/hub/launch/tls.ts';
import { expect, READY_MS, ROOT, test } from './fixture.ts';

let child: ChildProcess | null = null;
test.afterEach(() => {
  if (child !== null && child.exitCode === null) process.kill(-child.pid!, 'SIGKILL');
});

/** `npm start -- --headless ...`, in a process group of its own. */
function lend(flags: readonly string[]) {
  const args = ['--import', 'tsx', 'src/hub/main.ts', '--headless', ...flags];
  const started = spawn(process.execPath, args, { cwd: ROOT, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  child = started;
  let output = '';
  for (const stream of [started.stdout, started.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exited = new Promise<number | null>((resolve) => started.on('close', (code) => resolve(code)));
  return { started, exited, output: () => output };
}

test('--headless lends to a hub elsewhere by its join link and fingerprint, and leaves in order', async ({
  startTestHub,
}) => {
  const tls = await selfSigned(['localhost', '127.0.0.1'], new Date());
  const { hub } = await startTestHub({ tls, joinToken: 'lab-7' });
  const link = `https://127.0.0.1:${hub.port}/#join=lab-7`;
  const refused = lend(['--hub-url', link]);
  expect(await refused.exited).toBe(2);
  expect(refused.output()).toMatch(/cannot be trusted .* --hub-fingerprint/);

  const { started, exited, output } = lend([
    ...['--hub-url', link, '--hub-fingerprint', fingerprint(tls.cert)],
    ...['--max-num-seqs', '4', '--max-model-len', '256'],
  ]);
  await expect.poll(output, { timeout: READY_MS }).toContain('1 of 1 nodes lend to');
  expect(hub.state().nodes).toMatchObject([{ stage: 'ready', card: { maxNumSeqs: 4, maxModelLen: 256 } }]);

  process.kill(started.pid!, 'SIGTERM');
  expect(await exited).toBe(0);
  expect(hub.state().nodes).toEqual([]);
});
