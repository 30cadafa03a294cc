import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseArgs } from '../../src/config/options.ts';
import { type Hub, startHub } from '../../src/hub/hub.ts';
import { hubConfig } from '../../src/hub/launch/hub-config.ts';
import { splitGguf } from '../support/gguf-file.ts';
import { COMMIT, ModelSource } from '../support/model-source.ts';
import { picoParts } from '../support/pico-gguf.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { PICO } from '../support/test-hub.ts';

const FILES = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];
const TOKEN = 'hf_secret_of_the_hub';

let scratch: string;
let source: ModelSource;
let hub: Hub | null = null;
beforeEach(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'quire-by-name-'));
  const bytes = await Promise.all(FILES.map((name) => readFile(path.join(PICO, name))));
  source = await ModelSource.start(Object.fromEntries(FILES.map((name, i) => [name, bytes[i]!])));
  source.token = TOKEN;
});
afterEach(async () => {
  await hub?.close({ graceSeconds: 0, drainSeconds: 0 });
  hub = null;
  source.close();
  await rm(scratch, { recursive: true });
});

/** A hub as `npm start` makes one. */
async function start(...argv: string[]): Promise<{ hub: Hub; lines: string[] }> {
  const lines: string[] = [];
  const env = { HF_ENDPOINT: source.endpoint, HF_TOKEN: TOKEN, QUIRE_HF_ALLOWED_HOSTS: source.cdnHost };
  const config = await hubConfig(parseArgs(['--http-port', '0', ...argv], env), {
    root: scratch,
    hostname: 'test',
    lanAddresses: [],
    now: () => new Date(),
    modelCache: path.join(scratch, 'cache'),
    say: (line) => lines.push(line),
  });
  const silent = pino({ level: 'silent' });
  hub = await startHub({ ...config, staticDir: null }, { log: silent });
  return { hub, lines };
}

it('--model org/name fetches the model, offers it to nodes under that name, and chats', async () => {
  const { hub, lines } = await start('--model', 'org/tiny');
  expect(hub.models).toEqual(['org/tiny']);
  const node = await ScriptedNode.join(hub.url);
  const { base, files } = node.welcome!.model;
  expect(files.map((file) => file.path).sort()).toEqual([...FILES].sort());
  for (const file of files) {
    const bytes = new Uint8Array(await (await fetch(hub.url + base + file.path)).arrayBuffer());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(file.sha256);
    expect(source.files.get(file.path)?.equals(bytes)).toBe(true);
  }
  const response = await fetch(`${hub.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'org/tiny',
      messages: [{ role: 'user', content: 'Hi' }],
      max_tokens: 4,
      ignore_eos: true,
    }),
  });
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ model: 'org/tiny', usage: { completion_tokens: 4 } });

  const seen = JSON.stringify([node.welcome, hub.state(), lines]);
  expect(seen).not.toContain(TOKEN);
});

it('a second start fetches nothing, and a copy that was damaged since is not served', async () => {
  await start('--model', 'org/tiny', '--served-model-name', 'tiny');
  await hub?.close({ graceSeconds: 0, drainSeconds: 0 });
  source.asked.length = 0;
  const second = await start('--model', 'org/tiny', '--served-model-name', 'tiny');
  expect(second.hub.models).toEqual(['tiny']);
  expect(source.asked.map(({ path }) => path)).toEqual(['/api/models/org/tiny/revision/main']);
  await second.hub.close({ graceSeconds: 0, drainSeconds: 0 });
  hub = null;

  const host = source.endpoint.slice(7).replace(':', '_');
  const weights = path.join(scratch, 'cache', host, 'org/tiny', COMMIT, 'model.safetensors');
  await overwrite(weights, 1_000_000);
  await expect(start('--model', 'org/tiny')).rejects.toThrow(/model\.safetensors is not what was fetched .* Remove .*/);
  // Of another length it does not count as there, and comes anew.
  await truncate(weights, 100);
  await start('--model', 'org/tiny');
});

it('--model org/name:Q8_0 fetches one GGUF model of several, in parts, and serves it under org/name', async () => {
  source.files.clear();
  const parts = splitGguf('tiny-Q8_0', picoParts('Q8_0'), 11);
  for (const [name, bytes] of Object.entries({ ...parts, 'tiny-BF16.gguf': Buffer.from('never read') }))
    source.files.set(name, Buffer.from(bytes));
  const { hub, lines } = await start('--model', 'org/tiny:Q8_0');
  expect(hub.models).toEqual(['org/tiny']);
  const { base, files } = (await ScriptedNode.greet(hub.url)).welcome!.model;
  expect(files.map((file) => file.path)).toEqual(Object.keys(parts));
  for (const file of files) {
    const bytes = Buffer.from(await (await fetch(hub.url + base + file.path)).arrayBuffer());
    expect(bytes.equals(parts[file.path]!)).toBe(true);
  }
  expect(lines.some((line) => line.includes('all'))).toBe(true);
  expect(source.asks('BF16')).toEqual([]);
});

async function overwrite(file: string, at: number): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.write(Buffer.from([1, 2, 3]), 0, 3, at);
  await handle.close();
}
