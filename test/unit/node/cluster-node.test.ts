import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { listenerOf, Ranks } from '../../../src/node/ranks.ts';
import { CLOSE } from '../../../src/protocol/close-codes.ts';
import { ScriptedEngine, scriptedToken } from '../../support/scripted-engine.ts';
import { WELCOME } from './fake-socket.ts';

import { request, settled, setUp } from './one-node.ts';

describe('a node', () => {
  test('J5: registers with the card of its engine, and shows that it is ready', async () => {
    const { sockets, feed, ready } = setUp();
    expect(feed.current.stage).toBe('joining');
    const engine = await ready();
    expect(sockets.last().of('register')[0]?.card).toMatchObject({ model: 'scripted', role: 'agg', hashAlgo: 'xxh3' });
    expect(sockets.last().of('register')[0]?.card).not.toHaveProperty('vocabSize');
    expect(feed.current).toMatchObject({ stage: 'ready', node: 'node-1', model: 'scripted', problem: null });
    expect(feed.current.blockMaps).toEqual([new Uint8Array(engine.info.totalBlocks)]);
  });

  test('G1, T1: computes what it is asked for, under the attempt it was asked', async () => {
    const { sockets, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 2, rank: 0, generate: request('r', 2, 2) });
    engine.step();
    engine.step();
    const frames = sockets
      .last()
      .of('tokens')
      .flatMap((message) => message.frames);
    expect(frames).toHaveLength(4);
    for (const frame of frames) {
      expect(frame).toMatchObject({ request: 'r', attempt: 2 });
      expect(frame.tokens).toEqual([scriptedToken([1, 2, 3], frame.choice, frame.offset)]);
    }
    expect(frames.filter((frame) => frame.finish === 'length').map((frame) => frame.choice)).toEqual([0, 1]);
  });

  test('G1: a newer attempt ends the older one; G4: cancel of the older does nothing', async () => {
    const { sockets, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('r', 100) });
    sockets.last().say({ type: 'generate', attempt: 1, rank: 0, generate: request('r', 100) });
    expect(engine.cancelled).toEqual(['r']);
    sockets.last().say({ type: 'cancel', request: 'r', attempt: 0 });
    engine.step();
    expect(
      sockets
        .last()
        .of('tokens')
        .flatMap((m) => m.frames),
    ).toMatchObject([{ attempt: 1, offset: 0 }]);
    sockets.last().say({ type: 'cancel', request: 'r', attempt: 1 });
    engine.step();
    expect(sockets.last().of('tokens')).toHaveLength(1);
    expect(engine.cancelled).toEqual(['r', 'r']);
  });

  test('G3: a request that can never run fails with the engine’s words', async () => {
    const { sockets, ready } = setUp();
    await ready();
    const long = { ...request('long'), prompt: Array.from({ length: 300 }, () => 1) };
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: long });
    const [failed] = sockets.last().of('failed');
    expect(failed).toMatchObject({ request: 'long', attempt: 0, epoch: 1, code: 'invalid_request' });
    expect(failed?.message).toMatch(/300.*256/);
  });

  test('L4: tells its load each second, and soon after a request came', async () => {
    const { clock, sockets, ready } = setUp();
    await ready();
    expect(sockets.last().of('load')).toHaveLength(1);
    clock.advance(3000);
    expect(sockets.last().of('load')).toHaveLength(4);
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('a', 100) });
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('b', 100) });
    clock.advance(100);
    expect(sockets.last().of('load')).toHaveLength(5);
    expect(sockets.last().of('load').at(-1)?.load.running).toBe(2);
  });

  test('J9: a lost connection ends its requests; back again it registers with the same engine', async () => {
    const { clock, sockets, engines, feed, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 3, rank: 0, generate: request('r', 100) });
    sockets.last().drop(1006);
    expect(feed.current.stage).toBe('reconnecting');
    expect(engine.cancelled).toEqual(['r']);
    clock.advance(500);
    sockets.last().listener.opened();
    sockets.last().say({ ...WELCOME, epoch: 2, live: [{ request: 'r', attempt: 3 }] });
    expect(sockets.last().of('failed')).toMatchObject([{ request: 'r', attempt: 3, epoch: 2 }]);
    expect(sockets.last().of('register')).toHaveLength(1);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    expect(engines).toHaveLength(1);
    expect(feed.current.stage).toBe('ready');
  });

  test('a hub that comes back with another model ends the node with a clear message', async () => {
    const { clock, sockets, feed, ready } = setUp();
    const engine = await ready();
    sockets.last().drop(1001);
    clock.advance(500);
    sockets.last().listener.opened();
    sockets.last().say({ ...WELCOME, model: { ...WELCOME.model, fingerprint: 'other' } });
    expect(sockets.last().of('error')[0]?.code).toBe('model');
    expect(sockets.last().of('register')).toHaveLength(0);
    expect(feed.current).toMatchObject({ stage: 'gone', problem: { code: 'model' } });
    expect(engine.closed).toBe(true);
  });

  test('an engine that refuses keeps the node out: it tells hub and page why', async () => {
    const { sockets, feed } = setUp(async () => {
      throw new EngineError('self_test', 'The self-test failed on "adapter X".');
    });
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    await settled();
    expect(sockets.last().of('register')).toHaveLength(0);
    expect(sockets.last().of('error')).toMatchObject(
      [{ code: 'engine', message: /adapter X/ }].map((e) => ({ ...e, message: expect.stringMatching(e.message) })),
    );
    expect(feed.current).toMatchObject({ stage: 'refused', problem: { code: 'self_test' } });
  });

  test('J10: a lost engine is out of discovery at once, and the next one registers on the same connection', async () => {
    const { clock, sockets, feed, engines, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('r', 100) });
    engine.lose('The GPU device was lost.');
    const [stage] = sockets.last().of('stage');
    expect(stage).toMatchObject({ stage: 'warming', detail: 'The GPU device was lost. It is started again in 1 s.' });
    expect(feed.current).toMatchObject({ stage: 'warming', problem: null, loads: null, blockMaps: null });
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('late') });
    expect(sockets.last().of('failed')).toMatchObject([{ request: 'late', code: 'overloaded' }]);
    clock.advance(999);
    await settled();
    expect(engines).toHaveLength(1);
    clock.advance(1);
    await settled();
    expect(engines).toHaveLength(2);
    expect(sockets.last().of('register')).toHaveLength(2);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    expect(feed.current).toMatchObject({ stage: 'ready', problem: null });
    expect(sockets.last().of('kv_snapshot')).toHaveLength(2);
    // What the first engine still says is of no meaning.
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('next') });
    const before = sockets.last().of('tokens').length;
    engine.step();
    expect(sockets.last().of('tokens')).toHaveLength(before);
    engines[1]?.step();
    expect(sockets.last().of('tokens').at(-1)?.frames).toMatchObject([{ request: 'next', offset: 0 }]);
    expect(sockets.connections).toHaveLength(1);
  });

  test('D3: lost twice in a short time it tells the hub, leaves, and does not come back', async () => {
    const { clock, sockets, feed, engines, ready } = setUp();
    (await ready()).lose('The GPU device was lost.');
    clock.advance(1000);
    await settled();
    sockets.last().say({ type: 'registered', node: 'node-1' });
    engines[1]?.lose('The GPU device was lost.');
    const message = sockets.last().of('error')[0]?.message;
    expect(message).toMatch(/^The GPU device was lost\. It is the second loss within 2 minutes.*reload the page/);
    expect(sockets.last().closedWith?.code).toBe(1000);
    expect(feed.current).toMatchObject({ stage: 'gone', problem: { code: 'device_lost', message } });
    clock.advance(600_000);
    await settled();
    expect(engines).toHaveLength(2);
    expect(sockets.connections).toHaveLength(1);
  });

  test('an engine lost while the hub is out of reach is started again, and registers with the next connection', async () => {
    const { clock, sockets, feed, engines, ready } = setUp();
    const engine = await ready();
    sockets.last().drop(1006);
    engine.lose('The GPU device was lost.');
    expect(feed.current.stage).toBe('reconnecting');
    clock.advance(250);
    sockets.last().listener.opened();
    sockets.last().say({ ...WELCOME, epoch: 2 });
    expect(feed.current.stage).toBe('warming');
    expect(sockets.last().of('register')).toHaveLength(0);
    clock.advance(750);
    await settled();
    expect(engines).toHaveLength(2);
    expect(sockets.last().of('register')).toHaveLength(1);
  });

  test('J3: a wrong ticket is shown with the hub’s words', () => {
    const { sockets, feed } = setUp();
    sockets.last().listener.opened();
    sockets.last().say({ type: 'error', code: 'ticket', message: 'The join token is missing.' });
    sockets.last().drop(CLOSE.ticket);
    expect(feed.current).toMatchObject({
      stage: 'refused',
      problem: { code: 'ticket', message: 'The join token is missing.' },
    });
  });

  test('progress reaches the hub at most twice a second, the page at most ten times', async () => {
    let progress: (bytes: number) => void = () => {};
    const { clock, sockets, snapshots } = setUp((_offer, listener) => {
      progress = (bytes) => listener.progress('downloading', 'weights', bytes, 1000);
      return new Promise(() => {});
    });
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    await settled();
    clock.advance(1000);
    const before = snapshots.length;
    for (let i = 0; i < 1000; i++) {
      progress(i);
      clock.advance(1);
    }
    expect(sockets.last().of('stage').length).toBeLessThanOrEqual(3);
    expect(snapshots.length - before).toBeLessThanOrEqual(11);
    expect(snapshots.length - before).toBeGreaterThan(5);
  });

  test('K: events go to the hub in order, in messages of bounded size', async () => {
    let tell: (count: number) => void = () => {};
    const { sockets } = setUp(async (_offer, listener) => {
      tell = (count) =>
        listener.kvEvents(
          Array.from({ length: count }, (_, i) => ({ type: 'cleared', eventId: i + 1 }) as const),
          0,
        );
      return new Ranks([new ScriptedEngine(listenerOf(listener, 0))]);
    });
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    await settled();
    tell(5000);
    const messages = sockets.last().of('kv_events');
    expect(messages.map((m) => m.events.length)).toEqual([4096, 904]);
    expect(messages.flatMap((m) => m.events.map((e) => e.eventId))).toEqual(
      Array.from({ length: 5000 }, (_, i) => i + 1),
    );
  });
});
