import { expect, test } from 'vitest';
import { listenerOf, Ranks, type RanksListener } from '../../../src/node/ranks.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { WELCOME } from './fake-socket.ts';
import { request, settled, setUp } from './one-node.ts';

const REGISTERED = { type: 'registered', node: 'node-1' } as const;

/** A node of two ranks that serves; `go` lets it fall asleep. */
async function serving() {
  const engines: ScriptedEngine[] = [];
  let go = () => {};
  const ranks = (listener: RanksListener): Ranks => {
    const made = [0, 1].map((rank) => new ScriptedEngine(listenerOf(listener, rank))) as [
      ScriptedEngine,
      ScriptedEngine,
    ];
    engines.push(...made);
    return new Ranks(made, 0, async () => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      return { keptBytes: 0, wake: async () => ranks(listener), close: async () => {} };
    });
  };
  const node = setUp(async (_offer, listener) => ranks(listener));
  const { sockets } = node;
  sockets.last().listener.opened();
  sockets.last().say(WELCOME);
  await settled();
  sockets.last().say(REGISTERED);
  const fallAsleep = async () => {
    go();
    await settled();
  };
  return { ...node, engines, fallAsleep };
}

const stages = (sent: { type: string; stage?: string }[]) =>
  sent.flatMap((message) => (message.type === 'stage' ? [message.stage] : []));

test('S2: all ranks drop what they have at once; the hub hears of it when the GPU is free; pings go on, loads do not', async () => {
  const { sockets, engines, feed, clock, fallAsleep } = await serving();
  const socket = sockets.last();
  for (const rank of [0, 1]) socket.say({ type: 'generate', attempt: 0, rank, generate: request(`r${rank}`) });
  socket.say({ type: 'sleep', level: 2 });
  await settled();
  expect(engines.map(({ cancelled }) => cancelled)).toEqual([['r0'], ['r1']]);
  expect(stages(socket.sent)).toEqual([]);
  expect(feed.current).toMatchObject({ stage: 'asleep', detail: 'freeing the GPU', loads: null, blockMaps: null });
  await fallAsleep();
  expect(socket.of('stage')).toMatchObject([{ stage: 'asleep', detail: expect.stringContaining('at level 2') }]);
  const loads = socket.of('load').length;
  clock.advance(10_000);
  socket.say({ type: 'ping', nonce: 5 });
  expect(socket.of('pong')).toEqual([{ type: 'pong', nonce: 5 }]);
  expect(socket.of('load')).toHaveLength(loads);
  // What crossed the message has no engine to go to.
  socket.say({ type: 'generate', attempt: 1, rank: 0, generate: request('late') });
  expect(socket.of('failed')).toMatchObject([{ request: 'late', attempt: 1, code: 'overloaded' }]);
});

test('S3: it registers anew when it woke up, and tells an empty cache of each rank', async () => {
  const { sockets, feed, fallAsleep, engines } = await serving();
  const socket = sockets.last();
  socket.say({ type: 'sleep', level: 1 });
  await fallAsleep();
  socket.say({ type: 'wake' });
  await settled();
  expect(stages(socket.sent)).toEqual(['asleep', 'warming']);
  const [first, second] = socket.of('register');
  expect(second).toEqual(first);
  socket.say(REGISTERED);
  expect(feed.current.stage).toBe('ready');
  expect(socket.of('kv_snapshot').slice(-2)).toMatchObject([
    { rank: 0, snapshot: { lastEventId: 0, blocks: [] } },
    { rank: 1, snapshot: { lastEventId: 0, blocks: [] } },
  ]);
  expect(engines).toHaveLength(4);
});

test('S5: a connection that is lost wakes nobody: after the next welcome it says that it sleeps', async () => {
  const { sockets, feed, clock, fallAsleep } = await serving();
  sockets.last().say({ type: 'sleep', level: 2 });
  // Lost before it sleeps, so that nobody heard.
  sockets.last().drop(1006);
  await fallAsleep();
  expect(feed.current.stage).toBe('reconnecting');
  clock.advance(5000);
  const socket = sockets.last();
  socket.listener.opened();
  socket.say({ ...WELCOME, epoch: 2 });
  await settled();
  expect(stages(socket.sent)).toEqual(['asleep']);
  expect(socket.of('register')).toEqual([]);
  expect(feed.current.stage).toBe('asleep');
  socket.say({ type: 'wake' });
  await settled();
  expect(socket.of('register')).toHaveLength(1);
});

test('a node whose engines are on their way does not sleep: it registers, and is asked again', async () => {
  const { sockets, feed, engines } = await serving();
  engines[0]!.lose('The device was lost.');
  expect(feed.current.stage).toBe('warming');
  sockets.last().say({ type: 'sleep', level: 1 });
  await settled();
  expect(feed.current.stage).toBe('warming');
  expect(stages(sockets.last().sent)).toEqual(['warming']);
});
