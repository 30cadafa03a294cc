import { describe, expect, test } from 'vitest';
import { DEFAULT_ENDPOINT, Hosts, isPrivate } from '../../../src/hub/hf/hosts.ts';
import { isCommit, modelRef } from '../../../src/hub/hf/model-ref.ts';

describe('addresses', () => {
  test.each([
    '127.0.0.1',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1',
    'fd00::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    '::ffff:a00:1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
  ])('%s is private', (address) => {
    expect(isPrivate(address)).toBe(true);
  });

  test.each(['1.1.1.1', '172.32.0.1', '192.169.0.1', '18.64.0.1', '2606:4700::1', '::ffff:8.8.8.8'])(
    '%s is public',
    (address) => {
      expect(isPrivate(address)).toBe(false);
    },
  );
});

describe('the default endpoint', () => {
  const hosts = new Hosts(DEFAULT_ENDPOINT, []);
  test.each([
    'https://huggingface.co/x',
    'https://cdn-lfs.huggingface.co/x',
    'https://us.aws.cdn.hf.co/x',
    'https://cas-bridge.xethub.hf.co/x',
  ])('sends on to %s', (url) => {
    expect(() => hosts.check(new URL(url))).not.toThrow();
  });

  test.each([
    ['http://huggingface.co/x', /only https/],
    ['https://hf.co.example.org/x', /nobody allowed/],
    ['https://evilhf.co/x', /nobody allowed/],
    ['https://huggingface.co:8443/x', /nobody allowed/],
    ['https://127.0.0.1/x', /nobody allowed/],
    ['https://[::1]/x', /nobody allowed/],
  ])('but not to %s', (url, why) => {
    expect(() => hosts.check(new URL(url))).toThrow(why);
  });

  test('is not asked at an address of this network, whatever DNS says', () => {
    const spoofed = new Hosts(DEFAULT_ENDPOINT, [], (_, __, done) =>
      done(null, [
        { address: '18.64.0.1', family: 4 },
        { address: '192.168.0.9', family: 4 },
      ]),
    );
    const answers: unknown[] = [];
    spoofed.lookupFor(new URL(DEFAULT_ENDPOINT))('huggingface.co', { all: true }, (error) => answers.push(error));
    expect(String(answers[0])).toMatch(/has the address 192\.168\.0\.9, .* is not asked/);
  });
});

describe('an endpoint that the operator named', () => {
  test('may be on the own network, and sends on to nobody else', () => {
    const hosts = new Hosts('http://10.0.0.5:9000/hf', []);
    expect(() => hosts.check(new URL('http://10.0.0.5:9000/x'))).not.toThrow();
    expect(() => hosts.check(new URL('http://10.0.0.5:9001/x'))).toThrow(/nobody allowed/);
    expect(() => hosts.check(new URL('https://cdn-lfs.hf.co/x'))).toThrow(/--hf-allowed-hosts cdn-lfs\.hf\.co/);
  });

  test('and hosts with it; a domain names no host of the own network', () => {
    const hosts = new Hosts('https://hub.example.org', ['10.0.0.7:8443', '*.example.org']);
    expect(() => hosts.check(new URL('https://10.0.0.7:8443/x'))).not.toThrow();
    expect(() => hosts.check(new URL('https://files.example.org/x'))).not.toThrow();
    expect(() => hosts.check(new URL('https://example.org/x'))).toThrow(/nobody allowed/);
  });
});

describe('names of models', () => {
  test.each([
    ['Qwen/Qwen3-0.6B', { id: 'Qwen/Qwen3-0.6B', revision: 'main', gguf: null }],
    ['Qwen/Qwen3-0.6B@v1.0', { id: 'Qwen/Qwen3-0.6B', revision: 'v1.0', gguf: null }],
    ['a/b@refs/pr/1', { id: 'a/b', revision: 'refs/pr/1', gguf: null }],
    ['a/b-GGUF:Q8_0', { id: 'a/b-GGUF', revision: 'main', gguf: 'Q8_0' }],
    ['a/b@v1:b-Q4_K_M.gguf', { id: 'a/b', revision: 'v1', gguf: 'b-Q4_K_M.gguf' }],
  ])('%s', (text, ref) => {
    expect(modelRef(text)).toEqual(ref);
  });

  test.each([
    './name',
    '../name',
    'a/..',
    'a/b/c',
    '/a/b',
    'a',
    'a/b@',
    'a/b@../x',
    'a/b c',
    'a/b?x',
    'C:\\a',
    'a/b:',
    'a/b:../x',
    'a/b:x..y',
    'a/b:x/y',
  ])('%s is none', (text) => {
    expect(modelRef(text)).toBeNull();
  });

  test('a commit is known by its look', () => {
    expect(isCommit('c'.repeat(40))).toBe(true);
    expect(isCommit('main')).toBe(false);
  });
});
