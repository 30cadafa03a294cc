import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { Handler } from '../../../src/dynamo/ports.ts';
import { allowedHomes } from '../../../src/dynamo/wire/allowed-homes.ts';
import { readAddress } from '../../../src/dynamo/wire/control.ts';
import { writeTwoPart } from '../../../src/dynamo/wire/two-part.ts';
import { type FakeFrontend, requestFrame } from './fake-frontend.ts';
import { frontendOf, item, PATH, says, start } from './plane.ts';

describe('bad input', () => {
  it.each<[string, (frontend: FakeFrontend) => Buffer, RegExp]>([
    ['an oversized frame', () => requestFrame(PATH, Buffer.alloc(2000)), /a request of 2000 bytes; at most 1000/],
    ['a payload that is no message', () => requestFrame(PATH, Buffer.alloc(100)), /no two-part message/],
    [
      'garbage for a header',
      () => requestFrame(PATH, writeTwoPart({ header: Buffer.from('hm') })),
      /the control header is not JSON/,
    ],
    ['a header of another kind', () => requestFrame(PATH, writeTwoPart({ header: Buffer.from('{}') })), /request_type/],
    [
      'a host name to call',
      (frontend) => frontend.frame(PATH, {}, { home: 'example.org:80' }),
      /'example.org:80', which is no numeric address/,
    ],
  ])('%s closes that connection with a line in the log, and no other', async (_what, bytes, why) => {
    const { plane, frontend, log } = await start({ limits: { maxPayloadBytes: 1000 } });
    plane.serve(PATH, says(7));
    const other = await frontendOf(plane);
    frontend.requests.write(bytes(frontend));
    await once(frontend.requests, 'close');
    expect(frontend.acks.all).toEqual([]);
    expect(log.join()).toMatch(why);
    expect((await (await other.ask(PATH, {})).messages(5))[2]).toEqual(item({ token_ids: [7] }));
  });

  it('a frame that never ends is not waited for, while silence between frames is', async () => {
    const { plane, frontend, log } = await start({ limits: { frameMs: 100 } });
    plane.serve(PATH, says(7));
    const other = await frontendOf(plane);
    frontend.requests.write(frontend.frame(PATH, {}).subarray(0, 50));
    await once(frontend.requests, 'close');
    expect(log.join()).toContain('silent for 0.1 seconds in the middle of a frame');
    expect((await (await other.ask(PATH, {})).messages(5))[2]).toEqual(item({ token_ids: [7] }));
  });

  it('unfinished frames of all connections are bounded together', async () => {
    const { plane, log } = await start({ limits: { maxPendingBytes: 3000 } });
    const sockets = await Promise.all(Array.from({ length: 3 }, () => frontendOf(plane)));
    for (const { requests } of sockets) requests.write(requestFrame(PATH, Buffer.alloc(5000)).subarray(0, 1500));
    await Promise.race(sockets.map(({ requests }) => once(requests, 'close')));
    expect(log.join()).toContain('too many bytes of unfinished requests');
  });

  it('acknowledgements that nobody reads are bounded', async () => {
    const { frontend, log } = await start({ limits: { maxUnreadBytes: 10_000 } });
    frontend.requests.pause();
    const refused = Buffer.concat(Array.from({ length: 200 }, () => frontend.frame(`${'x'.repeat(200)}`, {})));
    const closed = new Promise((resolve) => frontend.requests.once('close', resolve));
    const more = setInterval(() => frontend.requests.write(refused), 1);
    await closed.finally(() => clearInterval(more));
    expect(log.join()).toContain('acknowledgements are not read');
  });

  it('a frontend that takes no answer costs a line in the log', async () => {
    const { plane, frontend, log } = await start();
    let called = false;
    const outcomes: string[] = [];
    const handler: Handler = async () => {
      called = true;
    };
    plane.serve(PATH, handler, { began: () => {}, sent: () => {}, ended: (outcome) => outcomes.push(outcome) });
    const away = await frontendOf(plane);
    const { home } = away;
    away.close();
    frontend.requests.write(frontend.frame(PATH, {}, { home }));
    await expect.poll(() => outcomes).toEqual(['error']);
    expect(log.join()).toContain('does not take the connection');
    expect(called).toBe(false);
  });
});

it.each(['0.0.0.0', '::', 'localhost', ''])('does not start on %o, which no frontend could be told', async (host) => {
  await expect(start({ host })).rejects.toThrow(/DYN_TCP_RPC_HOST/);
});

it.each([
  ['::1:44853', '::1', 44853],
  ['[::1]:44853', '::1', 44853],
  ['127.0.0.1:80', '127.0.0.1', 80],
  ['fe80::2:1', 'fe80::2', 1],
])('the address %s is read', (text, host, port) => {
  expect(readAddress(text)).toEqual({ host, port });
});

it.each(['localhost:80', '127.0.0.1', '127.0.0.1:0', '127.0.0.1:65536', '127.0.0.1:8x', ':80', '', '::1'])(
  'the address %o is none',
  (text) => {
    expect(() => readAddress(text)).toThrow(/no numeric address/);
  },
);

it('an answer may go where the request came from, within this machine, and where the operator says', () => {
  const allowed = allowedHomes(['10.0.0.0/8', '2001:db8::5'], () => ['172.17.0.2', 'fd00::2']);
  const cases: [string, string, boolean][] = [
    ['192.0.2.7', '192.0.2.7', true],
    ['::ffff:192.0.2.7', '192.0.2.7', true],
    ['192.0.2.7', '192.0.2.8', false],
    ['192.0.2.7', '127.0.0.1', false],
    ['127.0.0.1', '::1', true],
    ['127.0.0.1', '172.17.0.2', true],
    ['172.17.0.2', 'fd00::2', true],
    ['127.0.0.1', '192.0.2.7', false],
    ['192.0.2.7', '10.9.8.7', true],
    ['192.0.2.7', '2001:db8::5', true],
    ['192.0.2.7', '2001:db8::6', false],
  ];
  for (const [peer, host, expected] of cases) expect([peer, host, allowed(peer, host)]).toEqual([peer, host, expected]);
});

it.each(['10.0.0.0/33', '10.0.0/8', 'example.org', '::/129', '10.0.0.0/8/8', ''])(
  'the network %o is none',
  (network) => {
    expect(() => allowedHomes([network])).toThrow(/is no network/);
  },
);
