import { describe, expect, it } from 'vitest';
import { AccessPolicy } from '../../../src/hub/access.ts';
import { adminRoutes } from '../../../src/hub/admin.ts';

interface Call {
  readonly method?: string;
  readonly path?: string;
  readonly key?: string | null;
  readonly from?: string;
  readonly headers?: Record<string, string>;
  readonly query?: string;
}

/** An admin call to a hub that lists one origin, as Node's server would hand it over. */
async function call({
  method = 'POST',
  path = '/reset_prefix_cache',
  key = null,
  from = '127.0.0.1',
  headers = {},
  query = '',
}: Call) {
  const policy = new AccessPolicy({ host: '0.0.0.0', allowedHosts: [], allowedOrigins: ['https://chat.example'] });
  let resets = 0;
  const asked: string[] = [];
  const routes = adminRoutes(key, policy, {
    resetPrefixCaches() {
      resets += 1;
      return 3;
    },
    async sleep({ level, mode }, node) {
      asked.push(`sleep ${level} ${mode} ${node}`);
      return [];
    },
    async wake(node) {
      asked.push(`wake ${node}`);
      return [];
    },
    isSleeping(node) {
      asked.push(`asked ${node}`);
      return true;
    },
  });
  const incoming = {
    socket: { remoteAddress: from, remotePort: 1, remoteFamily: from.includes(':') ? 'IPv6' : 'IPv4' },
  };
  const request = { method, headers: { host: 'localhost:8080', ...headers } };
  const response = await routes.request(`${path}${query}`, request, { incoming });
  const body = (await response.json()) as { nodes?: number; error?: { code: string; message: string } };
  return { status: response.status, body, resets, asked };
}

describe('without an admin key', () => {
  it.each(['127.0.0.1', '127.8.9.1', '::1', '::ffff:127.0.0.1'])('%s is this machine', async (from) => {
    expect(await call({ from })).toEqual({ status: 200, body: { nodes: 3 }, resets: 1, asked: [] });
    expect(await call({ from, headers: { origin: 'http://localhost:8080' } })).toMatchObject({ status: 200 });
  });

  it.each(['192.168.1.5', '128.0.0.1', '::ffff:192.168.1.5', 'fe80::1', '2001:db8::1', '::7f00:1', ''])(
    '%s is not, whatever its headers say',
    async (from) => {
      for (const headers of [
        {},
        { host: '127.0.0.1' },
        { 'x-forwarded-for': '127.0.0.1' },
        { origin: 'http://localhost:8080' },
      ]) {
        const { status, body, resets } = await call({ from, headers });
        expect({ status, resets }).toEqual({ status: 403, resets: 0 });
        expect(body.error?.message).toContain('--admin-key');
      }
    },
  );

  it.each([
    'https://evil.example',
    'https://chat.example',
    'null',
    'http://localhost:8081',
    'http://127.0.0.1:8080',
    '',
  ])('a page of %s on this machine may not, though its origin were listed', async (origin) => {
    expect(await call({ headers: { origin } })).toMatchObject({ status: 403, resets: 0 });
  });

  it.each(['forwarded', 'x-forwarded-for', 'via'])(
    'what a proxy on this machine passes on (%s) may not',
    async (name) => {
      expect(await call({ headers: { [name]: '127.0.0.1' } })).toMatchObject({ status: 403, resets: 0 });
    },
  );
});

describe('with an admin key', () => {
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

  it('whoever has it may, from wherever', async () => {
    for (const from of ['127.0.0.1', '192.168.1.5']) {
      expect(await call({ key: 'secret', from, headers: bearer('secret') })).toMatchObject({ status: 200, resets: 1 });
    }
    const headers = { ...bearer('secret'), 'x-forwarded-for': '10.0.0.1' };
    expect(await call({ key: 'secret', headers })).toMatchObject({ status: 200 });
  });

  it.each<[string, Record<string, string>]>([
    ['none', {}],
    ['a wrong one', bearer('secres')],
    ['half of it', bearer('secre')],
    ['an empty one', { authorization: 'Bearer ' }],
    ['another scheme', { authorization: 'Basic secret' }],
  ])('%s is refused, over loopback too', async (_, headers) => {
    const { status, body, resets } = await call({ key: 'secret', headers });
    expect({ status, resets, code: body.error?.code }).toEqual({ status: 401, resets: 0, code: 'invalid_admin_key' });
  });
});

it('what a reset does not do is refused by name', async () => {
  expect(await call({ query: '?reset_running_requests=false&reset_external=False' })).toMatchObject({ status: 200 });
  for (const name of ['reset_running_requests', 'reset_external']) {
    const { status, body, resets } = await call({ query: `?${name}=true` });
    expect({ status, resets }).toEqual({ status: 400, resets: 0 });
    expect(body.error?.message).toContain(name);
  }
});

describe('sleeping', () => {
  it.each([
    ['POST', '/sleep'],
    ['POST', '/wake_up'],
    ['GET', '/is_sleeping'],
  ])('%s %s is an admin call', async (method, path) => {
    for (const refused of [
      { from: '192.168.1.5' },
      { headers: { origin: 'https://evil.example' } },
      { key: 'secret' },
    ]) {
      const { status, asked } = await call({ method, path, ...refused });
      expect({ status, asked }).toEqual({ status: 'key' in refused ? 401 : 403, asked: [] });
    }
  });

  it.each([
    ['POST', '/sleep', '', 'sleep 1 wait null'],
    ['POST', '/sleep', '?level=2&mode=abort&node=n-1', 'sleep 2 abort n-1'],
    ['POST', '/wake_up', '', 'wake null'],
    ['POST', '/wake_up', '?node=n-1&tags=kv_cache&tags=weights', 'wake n-1'],
    ['GET', '/is_sleeping', '', 'asked null'],
    ['GET', '/is_sleeping', '?node=n-1', 'asked n-1'],
  ])('%s %s%s', async (method, path, query, expected) => {
    expect(await call({ method, path, query })).toMatchObject({ status: 200, asked: [expected] });
  });

  it.each([
    ['/sleep', '?level=0', 'level'],
    ['/sleep', '?level=3', 'level'],
    ['/sleep', '?level=one', 'level'],
    ['/sleep', '?mode=keep', 'mode'],
    ['/wake_up', '?tags=weights', "'weights'"],
    ['/wake_up', '?tags=kv_cache', "'kv_cache'"],
    ['/wake_up', '?tags=weights&tags=scheduling', "'scheduling'"],
  ])('%s%s is refused by name', async (path, query, name) => {
    const { status, body, asked } = await call({ path, query });
    expect({ status, asked }).toEqual({ status: 400, asked: [] });
    expect(body.error?.message).toContain(name);
  });
});
