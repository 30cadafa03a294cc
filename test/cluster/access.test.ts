import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';

let hub: Hub;
beforeAll(async () => {
  hub = await startTestHub({
    apiKeys: ['key-1', 'key-2'],
    allowedOrigins: ['https://chat.example'],
    allowedHosts: ['gpu.example'],
  });
  await ScriptedNode.join(hub.url);
});
afterAll(() => hub.close());

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
}

/** Plain HTTP with headers that `fetch` would not let a caller set. */
function send(method: string, path: string, headers: Record<string, string> = {}, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(`${hub.url}${path}`, { method, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
        }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const JSON_BODY = { 'content-type': 'application/json' };
const KEY = { authorization: 'Bearer key-1' };
const COMPLETION = JSON.stringify({ model: 'quire-pico', prompt: [1], max_tokens: 1 });
const own = () => ({ origin: hub.url });

describe('Host, on every path and method', () => {
  const paths = [
    '/',
    '/live',
    '/health',
    '/metrics',
    '/cluster/state',
    '/cluster/summary',
    '/v1/models',
    '/models/quire-pico/config.json',
  ];
  it.each(paths)('%s does not answer to a foreign name', async (path) => {
    for (const host of ['evil.example', `evil.example:${hub.port}`, 'localhost.evil.example', '192.168.1.5']) {
      const { status, body } = await send('GET', path, { host, ...KEY });
      expect(status).toBe(403);
      expect(body).not.toContain('quire-pico');
    }
  });

  it.each(['POST', 'HEAD', 'OPTIONS', 'PUT'])('%s neither', async (method) => {
    expect(await send(method, '/v1/completions', { host: 'evil.example', ...KEY })).toMatchObject({ status: 403 });
  });

  it.each(['localhost', '127.0.0.1', '[::1]', 'gpu.example', 'GPU.EXAMPLE'])('%s is answered', async (name) => {
    expect(await send('GET', '/live', { host: `${name}:${hub.port}` })).toMatchObject({ status: 200 });
  });

  it('the upgrade of a node neither', async () => {
    await expect(ScriptedNode.open(hub.url, { headers: { host: 'evil.example' } })).rejects.toThrow('403');
  });
});

describe('Origin', () => {
  it.each(['https://evil.example', 'null', 'http://127.0.0.1:1', 'http://localhost.evil.example'])(
    'a page of %s may neither post, nor ask whether it may, nor join',
    async (origin) => {
      const headers = { ...JSON_BODY, ...KEY, origin };
      expect(await send('POST', '/v1/completions', headers, COMPLETION)).toMatchObject({ status: 403 });
      const preflight = await send('OPTIONS', '/v1/completions', { origin, 'access-control-request-method': 'POST' });
      expect(preflight.status).toBe(403);
      expect(preflight.headers['access-control-allow-origin']).toBeUndefined();
      await expect(ScriptedNode.open(hub.url, { headers: { origin } })).rejects.toThrow('403');
    },
  );

  it('what such a page may get without asking it cannot read', async () => {
    const { headers } = await send('GET', '/cluster/state', { origin: 'https://evil.example' });
    expect(headers['access-control-allow-origin']).toBeUndefined();
    expect(headers['cross-origin-resource-policy']).toBe('same-origin');
  });

  it('the hub’s own page, programs without origin, and listed origins may do all', async () => {
    for (const headers of [own(), {}, { origin: 'https://chat.example' }]) {
      const answer = await send('POST', '/v1/completions', { ...JSON_BODY, ...KEY, ...headers }, COMPLETION);
      expect(answer.status).toBe(200);
      const node = await ScriptedNode.join(hub.url, { headers, hello: { agent: 'by origin' } });
      await node.leave();
    }
  });

  it('a listed origin gets its preflight and may read the answers', async () => {
    const origin = 'https://chat.example';
    const preflight = await send('OPTIONS', '/v1/chat/completions', {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type',
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers['access-control-allow-origin']).toBe(origin);
    expect(preflight.headers['access-control-allow-headers']).toContain('authorization');
    expect(preflight.headers['access-control-allow-methods']).toBe('GET,HEAD,POST,DELETE');
    const { headers } = await send('GET', '/v1/models', { origin, ...KEY });
    expect(headers['access-control-allow-origin']).toBe(origin);
    expect(headers.vary).toMatch(/origin/i);
  });
});

describe('CORS as the options have it', () => {
  it('allows credentials, methods and headers by name', async () => {
    const strict = await startTestHub({
      allowedOrigins: ['https://chat.example'],
      cors: { credentials: true, methods: ['GET', 'POST'], headers: ['content-type'] },
    });
    const preflight = await fetch(`${strict.url}/v1/models`, {
      method: 'OPTIONS',
      headers: { origin: 'https://chat.example', 'access-control-request-method': 'POST' },
    });
    expect(preflight.headers.get('access-control-allow-credentials')).toBe('true');
    expect(preflight.headers.get('access-control-allow-methods')).toBe('GET,POST');
    expect(preflight.headers.get('access-control-allow-headers')).toBe('content-type');
    await strict.close();
  });
});

describe('what is not there', () => {
  it.each(['/nothing', '/cluster/nothing', '/v2/models'])('GET %s is told in the shape of all errors', async (path) => {
    const { status, body } = await send('GET', path);
    expect(status).toBe(404);
    expect(JSON.parse(body)).toMatchObject({ error: { type: 'not_found_error', message: expect.any(String) } });
  });
});

describe('API key', () => {
  it.each([
    ['none', {}],
    ['a wrong one', { authorization: 'Bearer key-3' }],
    ['half of one', { authorization: 'Bearer key-' }],
    ['another scheme', { authorization: 'Basic key-1' }],
    ['an empty one', { authorization: 'Bearer ' }],
  ])('%s opens nothing under /v1', async (_, headers) => {
    for (const path of ['/v1/models', '/v1/models/quire-pico', '/v1/nothing', '/tokenize', '/detokenize']) {
      const { status, body } = await send('GET', path, headers);
      expect(status).toBe(401);
      expect(JSON.parse(body)).toMatchObject({ error: { code: 'invalid_api_key', type: 'authentication_error' } });
    }
    expect(await send('POST', '/v1/completions', { ...JSON_BODY, ...headers }, COMPLETION)).toMatchObject({
      status: 401,
    });
  });

  it('each of the keys opens it; status pages need none', async () => {
    for (const key of ['key-1', 'key-2']) {
      expect(await send('GET', '/v1/models', { authorization: `Bearer ${key}` })).toMatchObject({ status: 200 });
    }
    for (const path of ['/live', '/health', '/metrics', '/cluster/state'])
      expect((await send('GET', path)).status).toBe(200);
  });
});

describe('headers of every answer', () => {
  it('no frame, no foreign script, no sniffing; the id of the request comes back', async () => {
    for (const path of ['/', '/live', '/v1/models', '/nothing']) {
      const { headers } = await send('GET', path, { 'x-request-id': 'mine-1' });
      expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
      expect(headers['content-security-policy']).toContain("default-src 'self'");
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['x-request-id']).toBe('mine-1');
    }
    // Whoever keeps a connection idle for less than that never meets one that the hub is about to end.
    expect((await send('GET', '/live')).headers['keep-alive']).toBe('timeout=75');
    const { headers } = await send('GET', '/live', { 'x-request-id': 'with spaces' });
    expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });
});
