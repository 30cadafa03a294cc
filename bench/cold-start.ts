import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createEngines } from '../src/engine/create-engine.ts';
import { readModelJson } from '../src/engine/files/source.ts';
import { modelSpec } from '../src/engine/model/config.ts';
import { Golden } from '../src/engine/self-test.ts';
import { loadWeights } from '../src/engine/weights/weights.ts';
import { createBlockHasher } from '../src/protocol/hashes.ts';
import { openDawn, shaders } from '../test/gpu/dawn.ts';
import { folderFiles } from '../test/support/folder-files.ts';
import { PICO } from '../test/support/test-hub.ts';
import { openPageNode } from './chromium-node.ts';
import { CompileTimes } from './compile-times.ts';
import { short, table } from './table.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const HEAD = ['part', 's'];

/** From nothing to an engine that serves, in Node: one run, since a second one in the same process is no cold start. */
export async function benchColdEngine(): Promise<string> {
  const marks = [performance.now()];
  const mark = () => void marks.push(performance.now());
  const gpu = await openDawn();
  mark();
  const files = folderFiles(PICO);
  const spec = modelSpec(await readModelJson(files, 'config.json'));
  const load = () => loadWeights(gpu.device, spec, files);
  const weights = await load();
  mark();
  const times = new CompileTimes(false);
  const { engines } = await createEngines({
    gpu,
    shaders,
    spec,
    weights,
    reload: load,
    model: 'quire-pico',
    fingerprint: '',
    hasher: await createBlockHasher('xxh3'),
    golden: Golden.parse(await readModelJson(files, 'self-test.json')),
    grammars: null,
    options: {
      engines: 1,
      blockSize: 16,
      kvCacheDtype: 'auto',
      maxModelLen: null,
      maxNumSeqs: 32,
      maxNumBatchedTokens: null,
      numGpuBlocksOverride: null,
      maxLoras: 0,
      maxLoraRank: 16,
      gpuMemoryUtilization: null,
      enablePrefixCaching: true,
      enforceEager: false,
      batchInvariant: true,
      freeOrder: null,
      speculation: null,
    },
    now: () => performance.now(),
    listener: () => ({ tokens() {}, kvEvents() {}, prefilled() {}, failed() {}, lost() {} }),
  });
  times.stop();
  mark();
  await engines[0].close();
  const [opening, loading, making] = marks.slice(1).map((at, i) => (at - marks[i]!) / 1000) as [number, number, number];
  const compiling = times.busyMs / 1000;
  return table('Cold start in Node', HEAD, [
    ['adapter and device', short(opening)],
    ['weights (read, hashed, uploaded)', short(loading)],
    [`compiling ${times.compiles.length} pipelines`, short(compiling)],
    ['self-test, warm-up, buffers', short(making - compiling)],
    ['all', short(opening + loading + making)],
  ]);
}

/** A page of headless Chromium from its first visit, and the same page once more, with the model in its store. */
export async function benchColdPage(software: boolean): Promise<string> {
  const started = performance.now();
  const node = await openPageNode(software);
  try {
    const row = (visit: string, all: number): string[] => {
      const { joining, downloading, warming } = node.phases;
      return [visit, ...[joining, downloading, warming, all].map((ms) => short((ms ?? Number.NaN) / 1000))];
    };
    const first = row('first, with the start of hub and browser', performance.now() - started);
    const reloaded = performance.now();
    await node.reload();
    return table(
      'Cold start of a page in headless Chromium, s',
      ['visit', 'joining', 'downloading', 'warming (compile, self-test, step budget)', 'all'],
      [first, row('second', performance.now() - reloaded)],
    );
  } finally {
    await node.close();
  }
}

/** `npm start` with a built page, until it says how to ask. */
export async function benchNpmStart(): Promise<string> {
  const started = performance.now();
  const hub = spawn('npm', ['start', '--', '--http-port', '0'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  const exited = once(hub, 'exit');
  const marks: [string, number][] = [];
  const seen = (name: string) => void marks.push([name, performance.now() - started]);
  await new Promise<void>((resolve, reject) => {
    let text = '';
    hub.once('exit', (code) => reject(new Error(`npm start ended with ${code}: ${text}`)));
    hub.stdout.on('data', (bytes) => {
      text += String(bytes);
      if (marks.length === 0 && text.includes('The hub is at')) seen('the hub answers');
      if (marks.length === 1 && text.includes('Ask it:')) {
        seen('its node is ready');
        resolve();
      }
    });
  });
  process.kill(-hub.pid!, 'SIGINT');
  await exited;
  seen('closed after Ctrl-C');
  return table(
    '`npm start` with a built page',
    ['until', 's'],
    marks.map(([name, ms]) => [name, short(ms / 1000)]),
  );
}
