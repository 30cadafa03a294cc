import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { ClusterNode } from '../../../src/node/cluster-node.ts';
import type { StartEngine } from '../../../src/node/engine-offer.ts';
import type { NodeSnapshot } from '../../../src/node/snapshot.ts';
import { SnapshotFeed } from '../../../src/node/snapshot-feed.ts';
import { CLOSE } from '../../../src/protocol/close-codes.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { transfersWith } from '../../support/open-transfers.ts';
import { ScriptedEngine, scriptedToken } from '../../support/scripted-engine.ts';
import { fakeSockets, WELCOME } from './fake-socket.ts';

const request = (id: string, maxTokens = 3, choices = 1): GenerateRequest => ({
  request: id,
  prompt: [1, 2, 3],
  choices: Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] })),
  sampling: { ...GREEDY, maxTokens },
});

const settled = () => new Promise((resolve) => setImmediate(resolve));

function setUp(startEngine?: StartEngine) {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const snapshots: NodeSnapshot[] = [];
  const feed = new SnapshotFeed(clock, (snapshot) => snapshots.push(snapshot));
  const engines: ScriptedEngine[] = [];
  const node = new ClusterNode({
    connect: sockets.connect,
    clock,
    random: () => 0,
    ticket: null,
    agent: 'test',
    room: null,
    query: '',
    feed,
    openTransfers: transfersWith(clock),
    leaveTimes: () => ({ graceMs: 5000, timeoutMs: 60_000 }),
    startEngine:
      startEngine ??
      (async (_offer, listener) => {
        const engine = new ScriptedEngine(listener);
        engines.push(engine);
        return engine;
      }),
  });
  node.join();
  const ready = async () => {
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    await settled();
    sockets.last().say({ type: 'registered', node: 'node-1' });
    const engine = engines[0];
    if (!engine) throw new Error('no engine was started');
    return engine;
  };
  return { clock, sockets, feed, snapshots, engines, node, ready };
}

describe('a node', () => {
  test('J5: registers with the card of its engine, and shows that it is ready', async () => {
    const { sockets, feed, ready } = setUp();
    expect(feed.current.phase).toBe('joining');
    const engine = await ready();
    expect(sockets.last().of('register')[0]?.card).toMatchObject({ model: 'scripted', role: 'agg', hashAlgo: 'xxh3' });
    expect(sockets.last().of('register')[0]?.card).not.toHaveProperty('vocabSize');
    expect(feed.current).toMatchObject({ phase: 'ready', node: 'node-1', model: 'scripted', problem: null });
    expect(feed.current.blockMap).toHaveLength(engine.info.totalBlocks);
  });

  test('G1, T1: computes what it is asked for, under the attempt it was asked', async () => {
    const { sockets, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 2, generate: request('r', 2, 2) });
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
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('r', 100) });
    sockets.last().say({ type: 'generate', attempt: 1, generate: request('r', 100) });
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
    sockets.last().say({ type: 'generate', attempt: 0, generate: long });
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
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('a', 100) });
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('b', 100) });
    clock.advance(100);
    expect(sockets.last().of('load')).toHaveLength(5);
    expect(sockets.last().of('load').at(-1)?.load.running).toBe(2);
  });

  test('J9: a lost connection ends its requests; back again it registers with the same engine', async () => {
    const { clock, sockets, engines, feed, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 3, generate: request('r', 100) });
    sockets.last().drop(1006);
    expect(feed.current.phase).toBe('reconnecting');
    expect(engine.cancelled).toEqual(['r']);
    clock.advance(500);
    sockets.last().listener.opened();
    sockets.last().say({ ...WELCOME, epoch: 2, live: [{ request: 'r', attempt: 3 }] });
    expect(sockets.last().of('failed')).toMatchObject([{ request: 'r', attempt: 3, epoch: 2 }]);
    expect(sockets.last().of('register')).toHaveLength(1);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    expect(engines).toHaveLength(1);
    expect(feed.current.phase).toBe('ready');
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
    expect(feed.current).toMatchObject({ phase: 'gone', problem: { code: 'model' } });
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
    expect(feed.current).toMatchObject({ phase: 'refused', problem: { code: 'self_test' } });
  });

  test('J10: a lost engine is out of discovery at once, and the next one registers on the same connection', async () => {
    const { clock, sockets, feed, engines, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('r', 100) });
    engine.lose('The GPU device was lost.');
    const [stage] = sockets.last().of('stage');
    expect(stage).toMatchObject({ stage: 'warming', detail: 'The GPU device was lost. It is started again in 1 s.' });
    expect(feed.current).toMatchObject({ phase: 'warming', problem: null, load: null, blockMap: null });
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('late') });
    expect(sockets.last().of('failed')).toMatchObject([{ request: 'late', code: 'overloaded' }]);
    clock.advance(999);
    await settled();
    expect(engines).toHaveLength(1);
    clock.advance(1);
    await settled();
    expect(engines).toHaveLength(2);
    expect(sockets.last().of('register')).toHaveLength(2);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    expect(feed.current).toMatchObject({ phase: 'ready', problem: null });
    expect(sockets.last().of('kv_snapshot')).toHaveLength(2);
    // What the first engine still says is of no meaning.
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('next') });
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
    expect(feed.current).toMatchObject({ phase: 'gone', problem: { code: 'device_lost', message } });
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
    expect(feed.current.phase).toBe('reconnecting');
    clock.advance(250);
    sockets.last().listener.opened();
    sockets.last().say({ ...WELCOME, epoch: 2 });
    expect(feed.current.phase).toBe('warming');
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
      phase: 'refused',
      problem: { code: 'ticket', message: 'The join token is missing.' },
    });
  });

  const finishes = (sockets: ReturnType<typeof fakeSockets>) =>
    sockets
      .last()
      .of('tokens')
      .flatMap(({ frames }) => frames)
      .flatMap((frame) => (frame.finish ? [frame.request] : []));

  test('D1: leaving it takes what was on its way until the hub has unregistered it, and ends with its last request', async () => {
    const { sockets, feed, node, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('r', 2) });
    const leaving = node.leave('drain');
    expect(sockets.last().of('drain')).toHaveLength(1);
    expect(feed.current.phase).toBe('draining');
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('crossing', 3) });
    sockets.last().say({ type: 'unregistered' });
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('late') });
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
    expect(feed.current.phase).toBe('idle');
  });

  test('D1: without a word of the hub it takes what comes in the grace period, and nothing after it', async () => {
    const { clock, sockets, node, ready } = setUp();
    const engine = await ready();
    const leaving = node.leave('drain');
    clock.advance(4999);
    await settled();
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('in time', 1) });
    clock.advance(1);
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('late', 1) });
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
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('r', 100) });
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
      sockets.last().say({ type: 'generate', attempt: 0, generate: request('r', 100) });
      const leaving = node.leave('drain');
      if (what === 'asked again') void node.leave('now');
      else if (what === 'without an engine') engine.lose('The GPU device was lost.');
      else sockets.last().drop(1006);
      await leaving;
      expect(engine.closed).toBe(true);
      expect(feed.current.phase).toBe('idle');
      expect(sockets.connections).toHaveLength(1);
    },
  );

  test('D4: a hub that will end says so and is served on', async () => {
    const { sockets, feed, ready } = setUp();
    const engine = await ready();
    sockets.last().say({ type: 'drain', reason: 'the hub stops', graceSeconds: 5 });
    expect(feed.current).toMatchObject({ phase: 'draining', detail: 'the hub stops' });
    sockets.last().say({ type: 'generate', attempt: 0, generate: request('r', 1) });
    engine.step();
    expect(finishes(sockets)).toEqual(['r']);
  });

  test('leaving while the model loads ends the start, and an engine that comes late is closed', async () => {
    const late: { resolve: (engine: ScriptedEngine) => void; signal: AbortSignal }[] = [];
    const { sockets, node, feed } = setUp(
      (_offer, listener, signal) =>
        new Promise((resolve) => {
          listener.progress('downloading', 'weights', 5, 10);
          late.push({ resolve: (engine) => resolve(engine), signal });
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
    expect(feed.current.phase).toBe('idle');
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
        listener.kvEvents(Array.from({ length: count }, (_, i) => ({ type: 'cleared', eventId: i + 1 }) as const));
      return new ScriptedEngine(listener);
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
