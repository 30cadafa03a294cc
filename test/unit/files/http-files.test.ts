import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type FetchOptions, fetchFiles } from '../../../src/engine/files/http-files.ts';
import { readModelFile, readModelJson } from '../../../src/engine/files/source.ts';
import type { ModelOffer } from '../../../src/protocol/messages.ts';

const MIB = 1024 * 1024;
const content = Buffer.from(Uint8Array.from({ length: 6 * MIB }, (_, i) => (i * 7919) >> 5));

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A server on a free port; each request takes the next answer, the last one for all that follow. */
let server: Server;
let base: string;
let answers: Answer[];
let ranges: (string | undefined)[];
let paths: string[];

beforeEach(async () => {
  ranges = [];
  paths = [];
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    paths.push(request.url ?? '');
    (answers.length > 1 ? answers.shift()! : answers[0]!)(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const from = (request: IncomingMessage): number => Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
const partial = (request: IncomingMessage, response: ServerResponse, end = content.length): void => {
  const start = from(request);
  if (start === 0) response.writeHead(200, { 'Content-Length': content.length });
  else response.writeHead(206, { 'Content-Range': `bytes ${start}-${content.length - 1}/${content.length}` });
  response.write(content.subarray(start, end), () => (end < content.length ? response.destroy() : response.end()));
};
const whole: Answer = (request, response) => partial(request, response);
const status =
  (code: number): Answer =>
  (_, response) =>
    void response.writeHead(code).end();

function offerOf(bytes: Buffer, path = 'model.safetensors'): ModelOffer {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { name: 'm', fingerprint: '', base: 'models/m', files: [{ path, size: bytes.length, sha256 }] };
}

let notices: string[];
let delays: number[];
async function download(options: FetchOptions = {}, offer = offerOf(content)): Promise<Buffer> {
  notices = [];
  delays = [];
  const files = fetchFiles(offer, base, {
    onNotice: (text) => notices.push(text),
    sleep: async (ms) => void delays.push(ms),
    ...options,
  });
  const parts: Uint8Array[] = [];
  for await (const chunk of readModelFile(files, offer.files[0]!.path)) parts.push(chunk);
  return Buffer.concat(parts);
}

describe('a download', () => {
  test('without trouble is one plain request at the offer path', async () => {
    answers = [whole];
    expect((await download()).equals(content)).toBe(true);
    expect(ranges).toEqual([undefined]);
    expect(paths).toEqual(['/models/m/model.safetensors']);
    expect(notices).toEqual([]);
  });

  test('that breaks goes on where it broke', async () => {
    const breaks: Answer = (request, response) => partial(request, response, from(request) + 2 * MIB);
    answers = [breaks, breaks, whole];
    expect((await download()).equals(content)).toBe(true);
    expect(ranges[0]).toBeUndefined();
    expect(ranges.length).toBe(3);
    for (const range of ranges.slice(1)) expect(range).toMatch(/^bytes=[1-9]\d+-$/);
    expect(notices[0]).toMatch(/model\.safetensors: download broke at byte \d+ of 6291456: .*; retry 1 of 5 in \d+ ms/);
  });

  test('from a server without ranges drops what it already has', async () => {
    const ignoresRange: Answer = (_, response) => void response.writeHead(200).end(content);
    answers = [(request, response) => partial(request, response, 2 * MIB), ignoresRange];
    expect((await download()).equals(content)).toBe(true);
    expect(ranges[1]).toMatch(/^bytes=/);
  });

  test('that stalls is broken off and taken up again', async () => {
    const stalls: Answer = (_, response) => {
      response.writeHead(200);
      response.write(content.subarray(0, 1000));
    };
    answers = [stalls, whole];
    expect((await download({ stallMs: 100 })).equals(content)).toBe(true);
    expect(notices[0]).toContain('nothing came for 100 ms');
  });

  test.each([408, 429, 500, 503])('answered with %i is tried again', async (code) => {
    answers = [status(code), status(code), whole];
    expect((await download()).equals(content)).toBe(true);
    expect(notices).toHaveLength(2);
  });

  test('that never comes fails after five retries, each later than the one before', async () => {
    answers = [status(503)];
    await expect(download()).rejects.toThrow(
      /model\.safetensors: download from http.* failed 6 times, last at byte 0 of 6291456: status 503/,
    );
    expect(ranges).toHaveLength(6);
    expect(delays).toHaveLength(5);
    delays.forEach((ms, i) => {
      expect(ms).toBeGreaterThanOrEqual(250 * 2 ** i);
      expect(ms).toBeLessThanOrEqual(500 * 2 ** i);
    });
  });

  test('that breaks often but gets on has its retries anew', async () => {
    const slow: Answer = (request, response) => {
      const start = from(request);
      const end = Math.min(content.length, start + 1.5 * MIB);
      if (start === 0) response.writeHead(200);
      else response.writeHead(206, { 'Content-Range': `bytes ${start}-${content.length - 1}/${content.length}` });
      response.end(content.subarray(start, end));
    };
    answers = [
      status(500),
      status(500),
      status(500),
      status(500),
      slow,
      status(500),
      status(500),
      slow,
      slow,
      slow,
      whole,
    ];
    expect((await download()).equals(content)).toBe(true);
    expect(notices.length).toBeGreaterThan(5);
  });

  test.each([400, 401, 403, 404, 416])('answered with %i fails at once', async (code) => {
    answers = [status(code)];
    await expect(download()).rejects.toThrow(
      new RegExp(`model\\.safetensors: .*/models/m/model\\.safetensors answered ${code}`),
    );
    expect(ranges).toHaveLength(1);
  });

  test('of the wrong range, or of too many bytes, fails', async () => {
    const wrong: Answer = (_, response) => void response.writeHead(206, { 'Content-Range': 'bytes 0-9/10' }).end('x');
    answers = [(request, response) => partial(request, response, 2 * MIB), wrong];
    await expect(download()).rejects.toThrow(/answered with the range "bytes 0-9\/10" where byte \d+ on was asked for/);
    answers = [(_, response) => void response.writeHead(200).end(Buffer.concat([content, content]))];
    await expect(download()).rejects.toThrow(/sent more than the 6291456 bytes/);
  });

  test('of other bytes than those offered fails by its hash', async () => {
    const other = Buffer.from(content);
    other[77]! ^= 1;
    answers = [whole];
    await expect(download({}, offerOf(other))).rejects.toThrow(
      /model\.safetensors: its bytes are not those that were offered/,
    );
  });
});

describe('the offer', () => {
  test.each(['../x', 'a/../x', '/x', 'a//b', './x', 'a\\b', ''])(
    'path %j is refused before anything is fetched',
    (path) => {
      expect(() => fetchFiles(offerOf(content, path), base)).toThrow(/is no plain relative path/);
    },
  );

  test('a base of another scheme is refused', () => {
    expect(() => fetchFiles({ ...offerOf(content), base: 'file:///etc/' }, base)).toThrow(/only http and https/);
  });

  test('names are escaped in the address', async () => {
    answers = [(_, response) => void response.writeHead(200).end('{"a":1}')];
    const offer = offerOf(Buffer.from('{"a":1}'), 'sub/a b?#.json');
    expect(await readModelJson(fetchFiles(offer, base), 'sub/a b?#.json')).toEqual({ a: 1 });
    expect(paths).toEqual(['/models/m/sub/a%20b%3F%23.json']);
  });
});
