import { describe, expect, test } from 'vitest';
import { Ranks } from '../../../src/node/ranks.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { type fakeSockets, WELCOME } from './fake-socket.ts';
import { request, settled, setUp } from './one-node.ts';

describe('a node that leaves', () => {
  const finishes = (sockets: ReturnType<typeof fakeSockets>) =>
    sockets
      .last()
      .of('tokens')
      .flatMap(({ frames }) => frames)
      .flatMap((frame) => (frame.finish ? [frame.request] : []));

  test('D1: leaving it takes what was on its way until the hub has unregistered it, and ends with its last request', async () => {
    const { sockets, feed, node, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('r', 2) });
    const leaving = node.leave('drain');
    expect(sockets.last().of('drain')).toHaveLength(1);
    expect(feed.current.stage).toBe('draining');
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('crossing', 3) });
    sockets.last().say({ type: 'unregistered' });
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('late') });
    expect(sockets.last().of('failed')).toMatchObject([{ request: 'late', code: 'overloaded' }]);
    engine.step();
    engine.step();
    await settled();
    expect(sockets.last().closedWith).toBeNull();
    engine.step();
    await leaving;
    expect(finishes(sockets)).toEqual(['r', 'crossing']);
    expect(sockets.last().closedWith?.code).toBe(1000);
    expect(engine.closed).toBe(true);
    expect(feed.current.stage).toBe('idle');
  });

  test('D1: without a word of the hub it takes what comes in the grace period, and nothing after it', async () => {
    const { clock, sockets, node, ready } = setUp();
    const engine = await ready();
    const leaving = node.leave('drain');
    clock.advance(4999);
    await settled();
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('in time', 1) });
    clock.advance(1);
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('late', 1) });
    expect(sockets.last().of('failed')).toMatchObject([{ request: 'late', code: 'overloaded' }]);
    engine.step();
    await leaving;
    expect(finishes(sockets)).toEqual(['in time']);
  });

  test('an idle node leaves as soon as the hub has unregistered it', async () => {
    const { sockets, node, ready } = setUp();
    const engine = await ready();
    const leaving = node.leave('drain');
    sockets.last().say({ type: 'unregistered' });
    await leaving;
    expect(engine.closed).toBe(true);
  });

  test('D2: what has not ended when the time for it is over is left behind', async () => {
    const { clock, sockets, node, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('r', 100) });
    const leaving = node.leave('drain');
    sockets.last().say({ type: 'unregistered' });
    for (let i = 0; i < 59; i++) {
      sockets.last().say({ type: 'ping', nonce: i });
      clock.advance(1000);
      await settled();
    }
    clock.advance(999);
    expect(sockets.last().closedWith).toBeNull();
    clock.advance(1);
    await leaving;
    expect(sockets.last().closedWith?.code).toBe(1000);
    expect(engine.closed).toBe(true);
  });

  test.each(['asked again', 'cut off from the hub', 'without an engine'] as const)(
    'a node that leaves and is %s is gone at once',
    async (what) => {
      const { sockets, feed, node, ready } = setUp();
      const engine = await ready();
      sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('r', 100) });
      const leaving = node.leave('drain');
      if (what === 'asked again') void node.leave('now');
      else if (what === 'without an engine') engine.lose('The GPU device was lost.');
      else sockets.last().drop(1006);
      await leaving;
      expect(engine.closed).toBe(true);
      expect(feed.current.stage).toBe('idle');
      expect(sockets.connections).toHaveLength(1);
    },
  );

  test('D4: a hub that will end says so and is served on', async () => {
    const { sockets, feed, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'drain', reason: 'the hub stops', graceSeconds: 5 });
    expect(feed.current).toMatchObject({ stage: 'draining', detail: 'the hub stops' });
    sockets.last().say({ type: 'generate', attempt: 0, rank: 0, generate: request('r', 1) });
    engine.step();
    expect(finishes(sockets)).toEqual(['r']);
  });

  test('leaving while the model loads ends the start, and an engine that comes late is closed', async () => {
    const late: { resolve: (engine: ScriptedEngine) => void; signal: AbortSignal }[] = [];
    const { sockets, node, feed } = setUp(
      (_offer, listener, signal) =>
        new Promise((resolve) => {
          listener.progress('downloading', 'weights', 5, 10);
          late.push({ resolve: (engine) => resolve(new Ranks([engine])), signal });
        }),
    );
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    await settled();
    expect(sockets.last().of('stage')).toMatchObject([{ stage: 'downloading', loadedBytes: 5, totalBytes: 10 }]);
    await node.leave('drain');
    expect(late[0]?.signal.aborted).toBe(true);
    const engine = new ScriptedEngine({ tokens() {}, kvEvents() {}, prefilled() {}, failed() {}, lost() {} });
    late[0]?.resolve(engine);
    await settled();
    expect(engine.closed).toBe(true);
    expect(sockets.last().of('register')).toHaveLength(0);
    expect(feed.current.stage).toBe('idle');
  });
});
