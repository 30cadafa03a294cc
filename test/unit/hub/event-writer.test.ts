import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { afterEach, describe, expect, test } from 'vitest';
import { type Chunks, PLAIN_CHUNKS, sseResponse } from '../../../src/frontend/sse.ts';
import { writingEvents } from '../../../src/hub/event-writer.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A server whose answers are streams of the chunks that `next` gives, and what became of them. */
async function serving(next: (asked: number, path: string) => Promise<Chunks>) {
  const seen = { asked: 0, left: 0, returned: 0, errors: [] as unknown[] };
  const fetch = async (request: Request) => {
    let asked = 0;
    const { pathname } = new URL(request.url);
    const source = {
      next: () => {
        seen.asked += 1;
        return next(asked++, pathname);
      },
      return: () => {
        seen.returned += 1;
      },
    };
    const form = { style: PLAIN_CHUNKS, failure: (error: Error) => ({ error: error.message }) };
    const hooks = {
      left() {
        seen.left += 1;
      },
      failed: (error: unknown) => void seen.errors.push(error),
    };
    const keepAlive = { keepAliveSeconds: null, after: () => () => {}, signal: new AbortController().signal };
    const response = await sseResponse(source, form, hooks, keepAlive);
    response.headers.set('x-path', pathname);
    return response;
  };
  const server = createServer(getRequestListener(writingEvents(fetch), { overrideGlobalObjects: false }));
  closing.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { seen, url: `http://127.0.0.1:${port}`, port };
}

const some = (count: number, text: string) => async (asked: number) =>
  asked < count ? ({ done: false, value: [{ asked, text }] } as const) : ({ done: true, value: undefined } as const);
const events = (count: number, text: string) =>
  `${Array.from({ length: count }, (_, asked) => `data: ${JSON.stringify({ asked, text })}\n\n`).join('')}data: [DONE]\n\n`;

/** Writes `lines` to a socket of its own; `all` is what came until the server closed it. */
async function raw(port: number, lines: string): Promise<{ socket: Socket; all: Promise<string> }> {
  const socket = connect(port, '127.0.0.1');
  closing.push(() => socket.destroy());
  await once(socket, 'connect');
  socket.write(lines);
  const all = (async () => {
    const parts: Buffer[] = [];
    for await (const part of socket) parts.push(part as Buffer);
    return Buffer.concat(parts).toString();
  })();
  return { socket, all };
}

describe('a stream of events that the hub writes itself', () => {
  test('has status, headers and body as any answer, whatever its characters take in bytes', async () => {
    const { url, seen } = await serving(some(20, 'Zoë says: 你好 🙂\n'));
    for (let again = 0; again < 2; again++) {
      const response = await fetch(`${url}/a`);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
      expect(response.headers.get('x-path')).toBe('/a');
      expect(await response.text()).toBe(events(20, 'Zoë says: 你好 🙂\n'));
    }
    expect(seen.left).toBe(0);
    expect(seen.errors).toEqual([]);
  });

  test('of HTTP/1.0 has no chunks and ends with its connection', async () => {
    const { port } = await serving(some(3, 'é'));
    const { all } = await raw(port, 'GET /a HTTP/1.0\r\nhost: a\r\n\r\n');
    expect((await all).split('\r\n\r\n')[1]).toBe(events(3, 'é'));
  });

  test('of requests that were sent at once come one after the other', async () => {
    const { port } = await serving(some(3, 'word'));
    const ask = (path: string, last: string) => `GET ${path} HTTP/1.1\r\nhost: a\r\n${last}\r\n`;
    const { all } = await raw(port, ask('/first', '') + ask('/second', 'connection: close\r\n'));
    const text = await all;
    const answers = text.split('HTTP/1.1 200 OK\r\n').slice(1);
    expect(answers.map((answer) => /x-path: (.*)\r\n/.exec(answer)?.[1])).toEqual(['/first', '/second']);
    for (const answer of answers) {
      const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
      expect(unchunked(body)).toBe(events(3, 'word'));
    }
  });

  test('is not asked for more while its reader does not read, and goes on when it does', async () => {
    const count = 20_000;
    const { port, seen } = await serving(some(count, 'x'.repeat(2000)));
    const socket = connect(port, '127.0.0.1').pause();
    closing.push(() => socket.destroy());
    socket.write('GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
    const settled = async () => {
      for (let before = -1; before !== seen.asked; ) {
        before = seen.asked;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return seen.asked;
    };
    await expect.poll(() => seen.asked).toBeGreaterThan(0);
    expect(await settled()).toBeLessThan(count);
    socket.resume();
    await expect.poll(() => seen.asked).toBe(count + 1);
  });

  test('is told when its reader leaves in the middle, and asks no more', async () => {
    let say = () => {};
    const { url, seen } = await serving((asked) =>
      asked === 0
        ? Promise.resolve({ done: false, value: [{ asked }] })
        : new Promise((resolve) => {
            say = () => resolve({ done: false, value: [{ asked }] });
          }),
    );
    const leaving = new AbortController();
    const response = await fetch(url, { signal: leaving.signal });
    await response.body?.getReader().read();
    leaving.abort();
    await expect.poll(() => seen.left).toBe(1);
    expect(seen.returned).toBe(1);
    const { asked } = seen;
    say();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(seen.asked).toBe(asked);
  });

  test('ends with what failed in the middle', async () => {
    const { url, seen } = await serving((asked) =>
      asked === 0 ? Promise.resolve({ done: false, value: [{ asked }] }) : Promise.reject(new Error('broken')),
    );
    expect(await (await fetch(url)).text()).toMatch(/^data: \{"asked":0\}\n\ndata: \{"error":".+"\}\n\n$/);
    expect(seen.errors).toMatchObject([{ message: 'broken' }]);
  });
});

/** The data of an HTTP chunked body that is whole. */
function unchunked(body: string): string {
  let rest = Buffer.from(body);
  let data = '';
  for (;;) {
    const line = rest.indexOf('\r\n');
    const size = Number.parseInt(rest.subarray(0, line).toString(), 16);
    if (size === 0) return data;
    data += rest.subarray(line + 2, line + 2 + size).toString();
    expect(rest.subarray(line + 2 + size, line + 4 + size).toString()).toBe('\r\n');
    rest = rest.subarray(line + 4 + size);
  }
}
