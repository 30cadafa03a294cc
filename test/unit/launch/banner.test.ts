import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { type BannerFacts, banner } from '../../../src/hub/launch/banner.ts';

const LOCAL: BannerFacts = {
  url: 'http://127.0.0.1:8080',
  lanUrls: [],
  models: ['quire-pico'],
  model: 'quire-pico',
  pools: false,
  endpointTypes: ['chat', 'completions', 'embeddings'],
  systemUrl: null,
  metricsUrl: null,
  adapters: ['NVIDIA H200'],
  apiKey: null,
  joinToken: null,
  tls: null,
  port: 8080,
  hostname: 'lab-7',
  skipTokenizer: false,
  dynamo: null,
};
const OPEN: BannerFacts = {
  ...LOCAL,
  url: 'https://localhost:8443',
  port: 8443,
  lanUrls: ['https://192.168.1.5:8443'],
  apiKey: 'key-1',
  joinToken: 'token-1',
  tls: { fingerprint: 'AB:CD', selfSigned: true },
};

/** What the printed curl line hands to curl, as a shell understands it. */
function curlArguments(text: string): string[] {
  const line = text.split('\n').find((each) => each.trim().startsWith('curl '))!;
  const script = `curl() { printf '%s\\n' "$@"; }\n${line}`;
  return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trimEnd().split('\n');
}

test('on loopback: page, adapter, curl, how to add a node, and ssh', () => {
  const text = banner(LOCAL);
  expect(text).toMatch(/Page +http:\/\/127\.0\.0\.1:8080\n/);
  expect(text).toContain('NVIDIA H200');
  expect(text).toContain('ssh -L 8080:127.0.0.1:8080 lab-7');
  expect(text).not.toMatch(/API key|Join token|Certificate|LAN|#join/);
});

test('servers beside the own port are told where there are any', () => {
  const text = banner({ ...LOCAL, systemUrl: 'http://127.0.0.1:9091', metricsUrl: 'http://127.0.0.1:9090' });
  expect(text).toMatch(/Health +http:\/\/127\.0\.0\.1:9091\/health\n/);
  expect(text).toMatch(/Metrics +http:\/\/127\.0\.0\.1:9090\/metrics\n/);
});

test('a deployment of Dynamo is told where its nodes are workers of one', () => {
  expect(banner(LOCAL)).not.toContain('Dynamo');
  const text = banner({ ...LOCAL, dynamo: { namespace: 'lab', discovery: '/srv/dynamo' } });
  expect(text).toMatch(/Dynamo +nodes are workers of namespace lab, found through \/srv\/dynamo\n/);
});

test('the curl line is a chat completion of the model, in any shell', () => {
  const args = curlArguments(banner({ ...LOCAL, model: "o'brien" }));
  expect(args[0]).toBe('http://127.0.0.1:8080/v1/chat/completions');
  const body = JSON.parse(args[args.indexOf('-d') + 1]!);
  expect(body.model).toBe("o'brien");
  expect(body.messages[0].role).toBe('user');
  expect(args.join(' ')).not.toContain('Authorization');
});

test('open to the network: key, token in a fragment, LAN address, fingerprint', () => {
  const text = banner(OPEN);
  expect(text).toContain('https://192.168.1.5:8443/#join=token-1');
  expect(text).toContain('AB:CD');
  expect(text).toMatch(/API key +key-1/);
  const args = curlArguments(text);
  expect(args).toContain('-k');
  expect(args).toContain('Authorization: Bearer key-1');
  expect(text).not.toContain('?join=');
});

test('open without TLS: says what browsers will not do, and the ways out', () => {
  const text = banner({
    ...OPEN,
    url: 'http://localhost:8080',
    port: 8080,
    lanUrls: ['http://192.168.1.5:8080'],
    tls: null,
  });
  expect(text).toContain('--tls self-signed');
  expect(text).toContain('ssh -L 8080:localhost:8080 lab-7');
  expect(text).toContain('http://127.0.0.1:8080/#join=token-1');
});

test('without a node it claims none', () => {
  expect(banner({ ...LOCAL, adapters: [] })).toContain('none here yet');
});

test('asks what is there: completions alone, token ids alone', () => {
  const completions = curlArguments(banner({ ...LOCAL, endpointTypes: ['completions'] }));
  expect(completions[0]).toBe('http://127.0.0.1:8080/v1/completions');
  const ids = curlArguments(banner({ ...LOCAL, skipTokenizer: true }));
  expect(JSON.parse(ids[ids.indexOf('-d') + 1]!).prompt).toEqual([1, 2, 3]);
  expect(banner({ ...LOCAL, endpointTypes: ['chat'], skipTokenizer: true })).not.toContain('curl');
});

test('a model for embeddings is asked for one', () => {
  const args = curlArguments(banner({ ...LOCAL, pools: true }));
  expect(args).toContain('http://127.0.0.1:8080/v1/embeddings');
  expect(JSON.parse(args.at(-1)!)).toEqual({ model: 'quire-pico', input: 'Once upon a time' });
  expect(banner({ ...LOCAL, pools: true, endpointTypes: ['chat'] })).not.toContain('curl');
});
