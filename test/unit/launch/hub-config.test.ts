import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OptionError } from '../../../src/config/option.ts';
import { parseArgs } from '../../../src/config/options.ts';
import { hubConfig } from '../../../src/hub/launch/hub-config.ts';

let root = '';
beforeAll(() => {
  root = mkdtempSync(path.join(os.tmpdir(), 'quire-config-'));
  mkdirSync(path.join(root, 'models/quire-pico'), { recursive: true });
  writeFileSync(path.join(root, 'template.jinja'), '{{ messages }}');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const config = (...argv: string[]) =>
  hubConfig(parseArgs(argv, {}), {
    root,
    hostname: 'lab-7',
    lanAddresses: ['192.168.1.5'],
    now: () => new Date(),
    modelCache: path.join(root, 'cache'),
    say: () => {},
  });

test('on loopback nothing is locked and nothing is made', async () => {
  const made = await config();
  expect(made).toMatchObject({
    host: '127.0.0.1',
    port: 8080,
    tls: null,
    apiKeys: [],
    joinToken: null,
    allowedHosts: [],
  });
  expect(made.models).toEqual([{ folder: path.join(root, 'models/quire-pico'), servedName: null }]);
});

test.each(['0.0.0.0', '192.168.1.5', 'lab-7'])('open on %s: key and token are made, each anew', async (host) => {
  const [a, b] = [await config('--http-host', host), await config('--http-host', host)];
  expect(a.apiKeys).toHaveLength(1);
  const secrets = [a.apiKeys[0], a.joinToken, b.apiKeys[0], b.joinToken];
  expect(new Set(secrets).size).toBe(4);
  for (const secret of secrets) expect(secret).toMatch(/^[\w-]{32}$/);
});

test('given keys and tokens stay, also on loopback', async () => {
  const open = await config('--http-host', '0.0.0.0', '--api-key', 'k', '--join-token', 't');
  expect(open).toMatchObject({ apiKeys: ['k'], joinToken: 't' });
  expect(await config('--api-key', 'k', '--join-token', 't')).toMatchObject({ apiKeys: ['k'], joinToken: 't' });
});

test('an admin key is never made, and is none of the API keys', async () => {
  expect((await config('--http-host', '0.0.0.0')).adminKey).toBeNull();
  expect((await config('--admin-key', 'a', '--api-key', 'k')).adminKey).toBe('a');
  await expect(config('--admin-key', 'k', '--api-key', 'j,k')).rejects.toThrow('--admin-key is one of the API keys');
});

test("a hub on all addresses answers to the machine's names, one on loopback does not", async () => {
  expect((await config('--http-host', '0.0.0.0', '--allowed-hosts', 'quire.test')).allowedHosts).toEqual([
    'quire.test',
    'lab-7',
    '192.168.1.5',
  ]);
  expect((await config('--allowed-hosts', 'quire.test')).allowedHosts).toEqual(['quire.test']);
});

test('a request moves three times unless flag or variable say otherwise', async () => {
  expect((await config()).migrationLimit).toBe(3);
  expect((await config('--migration-limit', '0')).migrationLimit).toBe(0);
  const { options } = parseArgs([], { DYN_MIGRATION_LIMIT: '7' });
  expect(options['migration-limit']).toBe(7);
});

test('the nth name is that of the nth model', async () => {
  const folder = path.join(root, 'models/quire-pico');
  const made = await config(
    '--model',
    'quire-pico',
    '--model',
    folder,
    '--served-model-name',
    'a',
    '--served-model-name',
    'b',
  );
  expect(made.models).toEqual([
    { folder, servedName: 'a' },
    { folder, servedName: 'b' },
  ]);
});

test('nodes are offered what was set and concerns them', async () => {
  const made = await config('--max-num-seqs', '4', '--kv-cache-dtype', 'f32', '--api-key', 'k');
  expect(made.nodeOptions).toEqual({ 'max-num-seqs': '4', 'kv-cache-dtype': 'f32' });
});

test('a template that does not parse is refused by its name', async () => {
  const file = path.join(root, 'broken.jinja');
  writeFileSync(file, '{% if %}');
  await expect(config('--chat-template', file)).rejects.toThrow(`--chat-template ${file}: this is no Jinja template (`);
});

test('files that options name are read', async () => {
  expect((await config('--chat-template', path.join(root, 'template.jinja'))).chatTemplate).toBe('{{ messages }}');
  expect((await config('--chat-template', '{{ messages[0].content }}')).chatTemplate).toBe('{{ messages[0].content }}');
  const { tls } = await config('--tls', 'self-signed');
  expect(tls?.cert).toContain('BEGIN CERTIFICATE');
  expect(tls?.key).toContain('BEGIN PRIVATE KEY');
});

test.each([
  [['--model', 'nowhere'], '--model nowhere: there is no such folder'],
  [['--model', '../models'], 'there is no such folder'],
  [['--model', 'org/name', '--model', 'nowhere'], '--model nowhere: there is no such folder'],
  [['--chat-template', '/nowhere.jinja'], '--chat-template /nowhere.jinja: the file is not there'],
  [['--chat-template', '{% for x in %}\nx'], '--chat-template: this is no Jinja template ('],
  [['--tls-cert-path', import.meta.filename, '--tls-key-path', import.meta.filename], 'no certificate and its private'],
  [['--tls-cert-path', '/nowhere.pem', '--tls-key-path', '/nowhere.pem'], '--tls-cert-path /nowhere.pem'],
])('%j is one clear line', async (argv, part) => {
  const error = await config(...argv).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OptionError);
  expect((error as OptionError).message).toContain(part);
  expect((error as OptionError).message).not.toContain('\n');
});

test("KV events go to subscribers only where they are asked to, with vLLM's defaults", async () => {
  const publisher = async (json: string) => (await config('--kv-events-config', json)).kvPublisher;
  expect((await config()).kvPublisher).toBeNull();
  expect(await publisher('{"publisher":"zmq","replay_endpoint":"tcp://*:5558"}')).toEqual({
    endpoint: 'tcp://*:5557',
    replayEndpoint: 'tcp://*:5558',
    bufferSteps: 10_000,
    hwm: 100_000,
    maxQueueSize: 100_000,
    topic: 'kv',
  });
  expect(await publisher('{"publisher":"zmq","enable_kv_cache_events":false}')).toBeNull();
  expect(await publisher('{"publisher":"null"}')).toBeNull();
});

test('LoRA adapters: their folders, and the room that nodes keep for them', async () => {
  expect((await config()).loras).toEqual({ modules: [], dir: null, most: 0, maxRank: 16 });
  expect((await config()).nodeOptions).not.toHaveProperty('max-loras');
  const two = await config('--lora-modules', 'sql=/a/sql', '--lora-modules', 'chat=b=c', '--max-lora-rank', '32');
  const modules = [
    { name: 'sql', folder: '/a/sql' },
    { name: 'chat', folder: 'b=c' },
  ];
  expect(two.loras).toEqual({ modules, dir: null, most: 2, maxRank: 32 });
  expect(two.nodeOptions).toMatchObject({ 'max-loras': '2', 'max-lora-rank': '32' });
  expect((await config('--lora-modules', 'sql=/a', '--lora-dir', root)).loras).toMatchObject({ dir: root, most: 5 });
  expect((await config('--lora-dir', root, '--max-loras', '3')).nodeOptions).toMatchObject({ 'max-loras': '3' });
  expect((await config('--lora-dir', root, '--max-loras', '0')).loras.most).toBe(0);
  await expect(config('--lora-dir', path.join(root, 'none'))).rejects.toThrow('there is no such folder');
  await expect(config('--lora-modules', 'a=/a', '--max-loras', '0')).rejects.toThrow('names 1 adapters');
  await expect(config('--max-loras', '2')).rejects.toThrow('there are none to load');
});

test.each([
  [['--lora-modules', 'sql'], 'NAME=FOLDER'],
  [['--lora-modules', '../sql=/a'], 'NAME=FOLDER'],
  [['--lora-modules', '..=/a'], 'NAME=FOLDER'],
  [['--max-lora-rank', '7'], '8, 16, 32'],
])('refused: %j', (argv, why) => {
  expect(() => parseArgs(argv, {})).toThrow(why);
});

test('API keys come from flags and from a file, which must have one that can be sent', async () => {
  const file = (text: string) => {
    const name = path.join(root, 'keys.txt');
    writeFileSync(name, text);
    return ['--api-key-file', name];
  };
  expect((await config('--api-key', 'k', ...file('# of the lab\na\r\n\n  b  \n'))).apiKeys).toEqual(['k', 'a', 'b']);
  expect((await config('--http-host', '0.0.0.0', ...file('a'))).apiKeys).toEqual(['a']);
  await expect(config(...file('# none\n'))).rejects.toThrow('there is no key in it');
  await expect(config(...file('two words\n'))).rejects.toThrow('visible ASCII');
  await expect(config('--admin-key', 'a', ...file('a'))).rejects.toThrow('--admin-key is one of the API keys');
  await expect(config('--api-key-file', path.join(root, 'nowhere'))).rejects.toThrow('is not there');
});

test("lists of CORS are written with commas, or as vLLM's JSON", async () => {
  const origins = ['https://a.example', 'https://b.example'];
  for (const text of [origins.join(','), JSON.stringify(origins)])
    expect((await config('--allowed-origins', text)).allowedOrigins).toEqual(origins);
  expect((await config()).cors).toEqual({
    credentials: false,
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    headers: ['*'],
  });
  const all = await config('--allow-credentials', '--allowed-methods', '["*"]', '--allowed-headers', 'x-a,x-b');
  expect(all.cors).toEqual({ credentials: true, methods: ['*'], headers: ['x-a', 'x-b'] });
  expect(() => config('--allowed-methods', 'get post')).toThrow(OptionError);
});
