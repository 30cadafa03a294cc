import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { Handler, RequestObserver } from '../../../src/dynamo/ports.ts';
import { Incoming } from '../../../src/dynamo/wire/incoming.ts';
import { requestFrames } from '../../../src/dynamo/wire/request-frame.ts';
import { readTwoPart, writeTwoPart } from '../../../src/dynamo/wire/two-part.ts';
import { chatAnswer, chatRequest } from './captures.ts';
import { type FakeFrontend, requestFrame } from './fake-frontend.ts';
import { FINAL, failed, item, PATH, says, start } from './plane.ts';

/** The captured request, with the answer going to another address. */
function chatFrame(home: string): Buffer {
  const [frame] = new Incoming(requestFrames(1 << 20)).push(chatRequest.frame_hex);
  const { header, body } = readTwoPart(frame!.payload);
  return requestFrame(
    frame!.path,
    writeTwoPart({ header: Buffer.from(header.toString().replace('::1:33453', home)), body }),
  );
}

describe('an answer', () => {
  it('is, byte for byte, the one that a frontend of Dynamo accepted', async () => {
    const { plane, frontend } = await start();
    const seen: unknown[] = [];
    const told: unknown[] = [];
    const observer: RequestObserver = {
      began: () => {},
      sent: (bytes) => told.push(bytes),
      ended: (outcome) => told.push(outcome),
    };
    const handler: Handler = async (body, reply) => {
      seen.push(body);
      reply.accept();
      for (const token of [401, 79, 40, 69, 401, 79, 40]) await reply.tokens([token]);
      const prompt_tokens_details = { cached_tokens: 3 };
      await reply.item({
        ...{ token_ids: [69], finish_reason: 'length' },
        completion_usage: { prompt_tokens: 10, completion_tokens: 8, total_tokens: 18, prompt_tokens_details },
      });
      reply.end();
    };
    plane.serve(chatRequest.path, handler, observer);
    frontend.requests.write(chatFrame(frontend.home));
    const answer = await (await frontend.next()).bytes();
    expect(answer.toString('hex')).toBe(Buffer.concat(chatAnswer).toString('hex'));
    expect(seen).toEqual([chatRequest.body]);
    expect(await frontend.acks.first(1)).toEqual(['']);
    expect(told).toEqual([answer.length, 'success']);
  });

  it('is in the codec of its request, with ids of 64 bits both ways', async () => {
    const { plane, frontend } = await start();
    plane.serve(PATH, async (body, reply) => {
      await reply.item({ heard: body, hash: 2n ** 64n - 1n }, 'bare');
      reply.end();
    });
    for (const codec of ['json', 'msgpack'] as const) {
      const stream = await frontend.ask(PATH, { room: 2n ** 63n - 1n }, { codec });
      const [, prologue, said, final, sentinel] = await stream.messages(5);
      const data = { heard: { room: 2n ** 63n - 1n }, hash: 2n ** 64n - 1n };
      expect([prologue, said, final, sentinel]).toEqual([
        { error: null },
        { data, complete_final: false },
        FINAL,
        'sentinel',
      ]);
    }
  });

  it.each<[string, Handler, unknown[]]>([
    [
      'an error before any token',
      async (_, reply) => reply.error('InvalidArgument', 'no'),
      [failed('InvalidArgument', 'no')],
    ],
    [
      'an error after tokens',
      async (_, reply) => {
        await reply.item({ token_ids: [1] });
        reply.error({ Backend: 'EngineShutdown' }, 'over');
        await reply.item({ token_ids: [2] });
        reply.end();
      },
      [item({ token_ids: [1] }), failed({ Backend: 'EngineShutdown' }, 'over')],
    ],
    [
      'a handler that throws',
      async () => {
        throw new Error('a secret of the inside');
      },
      [failed('Unknown', expect.not.stringContaining('secret'))],
    ],
    ['a handler that forgets the end', async (_, reply) => reply.accept(), [failed('Unknown')]],
  ])('%s reaches the frontend, and ends as every answer', async (_what, handler, expected) => {
    const { plane, frontend } = await start();
    plane.serve(PATH, handler);
    const stream = await frontend.ask(PATH, {});
    expect(await stream.messages(4 + expected.length)).toEqual([
      expect.objectContaining({ stream_type: 'response' }),
      { error: null },
      ...expected,
      FINAL,
      'sentinel',
    ]);
  });

  it('that is abandoned has no end, as of a worker that is lost', async () => {
    const { plane, frontend } = await start();
    plane.serve(PATH, async (_, reply) => {
      await reply.item({ token_ids: [1] });
      reply.abandon();
    });
    const stream = await frontend.ask(PATH, {});
    const all = await stream.messages();
    expect(all.slice(2)).toEqual([item({ token_ids: [1] })]);
  });

  it('of a body that cannot be read is the error of a bad request', async () => {
    const { plane, frontend } = await start();
    plane.serve(PATH, says(1));
    const frame = frontend.frame(PATH, { a: 'xxxxxxxx' });
    frame.fill('{', frame.length - 4);
    frontend.requests.write(frame);
    const [, , error] = await (await frontend.next()).messages(3);
    expect(error).toEqual(failed('InvalidArgument', expect.stringContaining('no JSON')));
  });
});

describe('acknowledgements', () => {
  it('come for every frame, in order, whatever becomes of it, before any answer is there', async () => {
    const { plane, frontend } = await start({ limits: { maxInflight: 3 } });
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    plane.serve(PATH, async (_, reply) => {
      await held;
      reply.end();
    });
    const good = () => frontend.frame(PATH, {});
    const away = frontend.frame(PATH, {}, { home: '192.0.2.1:9000' });
    const unknown = frontend.frame('77/nope', {});
    // All in one segment, and cut within a frame.
    const bytes = Buffer.concat([good(), unknown, good(), away, good(), good(), good()]);
    frontend.requests.write(bytes.subarray(0, 1000));
    frontend.requests.write(bytes.subarray(1000));
    const acks = await frontend.acks.first(7);
    expect(acks.map((ack) => ack.split(':')[0])).toEqual([
      ...['', 'Server unavailable', '', 'Server unavailable', '', 'Server unavailable', 'Server unavailable'],
    ]);
    expect(acks[1]).toContain('77/nope');
    expect(acks[3]).toMatch(/192\.0\.2\.1, which is neither .* nor in --dynamo-allow/);
    expect(acks[5]).toContain('3 requests are in work');
    release();
    for (let i = 0; i < 3; i++) await (await frontend.next()).bytes();
    const acked = async () => {
      frontend.requests.write(good());
      return (await frontend.acks.first(frontend.acks.all.length + 1)).at(-1);
    };
    await expect.poll(acked).toBe('');
  });

  it('refuse a path from its removal on, while its running answers go on', async () => {
    const { plane, frontend } = await start();
    let go = () => {};
    plane.serve(PATH, async (_, reply) => {
      await reply.item({ token_ids: [1] });
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      await reply.item({ token_ids: [2] });
      reply.end();
    });
    const stream = await frontend.ask(PATH, {});
    await stream.messages(3);
    plane.remove(PATH);
    frontend.requests.write(frontend.frame(PATH, {}));
    expect((await frontend.acks.first(2))[1]).toContain('Server unavailable');
    go();
    expect((await stream.messages(6)).slice(2)).toEqual([
      item({ token_ids: [1] }),
      item({ token_ids: [2] }),
      FINAL,
      'sentinel',
    ]);
  });

  it('let an answer go to the allowed networks alone', async () => {
    const { plane, frontend } = await start({ networks: ['192.0.2.0/24'], limits: { connectMs: 50 } });
    plane.serve(PATH, says(1));
    for (const home of ['192.0.2.9:9', '198.51.100.9:9']) frontend.requests.write(frontend.frame(PATH, {}, { home }));
    const [allowed, refused] = await frontend.acks.first(2);
    expect(allowed).toBe('');
    expect(refused).toContain('198.51.100.9');
  });
});

describe('who stops reading', () => {
  const waits = () => {
    let ended: AbortSignal | null = null;
    const handler: Handler = async (_, reply, signal) => {
      ended = signal;
      await reply.item({ token_ids: [1] });
      await once(signal, 'abort');
      // Nothing of this goes anywhere.
      await reply.item({ token_ids: [2] });
      reply.end();
    };
    return { handler, aborted: () => ended?.aborted ?? false };
  };

  it.each<[string, (stream: Awaited<ReturnType<FakeFrontend['ask']>>) => void]>([
    ['kill', (stream) => stream.say('kill')],
    ['stop', (stream) => stream.say('stop')],
    ['a FIN', (stream) => stream.socket.end()],
    ['a reset', (stream) => stream.socket.resetAndDestroy()],
    ['garbage', (stream) => stream.socket.write(Buffer.alloc(64, 0xff))],
  ])('%s stops the work, and nothing more is sent', async (_what, leave) => {
    const { plane, frontend } = await start();
    const { handler, aborted } = waits();
    const outcomes: string[] = [];
    const observer = { began: () => {}, sent: () => {}, ended: (outcome: string) => outcomes.push(outcome) };
    plane.serve(PATH, handler, observer);
    const stream = await frontend.ask(PATH, {});
    await stream.messages(3);
    leave(stream);
    await expect.poll(() => aborted()).toBe(true);
    await expect.poll(() => outcomes).toEqual(['cancelled']);
    expect((await stream.messages()).length).toBe(3);
  });

  it('is waited for, and given up where it reads nothing at all', async () => {
    const { plane, frontend, log } = await start({ limits: { drainMs: 300 } });
    let items = 0;
    let cancelled = false;
    plane.serve(PATH, async (_, reply, signal) => {
      while (!signal.aborted) {
        await reply.item({ token_ids: [items], text: 'x'.repeat(100_000) });
        items += 1;
      }
      cancelled = true;
    });
    frontend.requests.write(frontend.frame(PATH, {}));
    const stream = await frontend.next();
    stream.socket.pause();
    await expect.poll(() => cancelled).toBe(true);
    // What the kernel's buffers took, and no more.
    expect(items).toBeLessThan(1000);
    expect(log.join()).toContain('has read nothing for 0.3 seconds');
  });

  it('gets all of it where it reads slowly', async () => {
    const { plane, frontend } = await start();
    let sent = 0;
    plane.serve(PATH, async (_, reply) => {
      for (; sent < 200; sent++) await reply.item({ token_ids: [sent], text: 'x'.repeat(100_000) });
      reply.end();
    });
    frontend.requests.write(frontend.frame(PATH, {}));
    const stream = await frontend.next();
    stream.socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sent).toBeLessThan(200);
    stream.socket.resume();
    expect(await stream.messages(204)).toHaveLength(204);
    expect(sent).toBe(200);
  });
});

it('closing cuts what runs with a word that Dynamo sends elsewhere, and refuses the rest', async () => {
  const { plane, frontend } = await start({ limits: { closeMs: 200 } });
  let aborted = false;
  plane.serve(PATH, async (_, reply, signal) => {
    await reply.item({ token_ids: [1] });
    await once(signal, 'abort');
    aborted = true;
  });
  const stream = await frontend.ask(PATH, {});
  await stream.messages(3);
  const closed = plane.close();
  expect((await stream.messages(6)).slice(3)).toEqual([failed({ Backend: 'EngineShutdown' }), FINAL, 'sentinel']);
  await closed;
  expect(aborted).toBe(true);
  const colon = plane.address.lastIndexOf(':');
  const [error] = await once(connect(Number(plane.address.slice(colon + 1)), '127.0.0.1'), 'error');
  expect(error).toMatchObject({ code: 'ECONNREFUSED' });
});
