import { ClusterNode } from '../../../src/node/cluster-node.ts';
import type { StartEngine } from '../../../src/node/engine-offer.ts';
import { listenerOf, Ranks } from '../../../src/node/ranks.ts';
import type { NodeSnapshot } from '../../../src/node/snapshot.ts';
import { SnapshotFeed } from '../../../src/node/snapshot-feed.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { transfersWith } from '../../support/open-transfers.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { fakeSockets, WELCOME } from './fake-socket.ts';

export const request = (id: string, maxTokens = 3, choices = 1): GenerateRequest => ({
  request: id,
  prompt: [1, 2, 3],
  choices: Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] })),
  sampling: { ...GREEDY, maxTokens },
});

export const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A node that joins, with scripted engines, over sockets that go nowhere. */
export function setUp(startEngine?: StartEngine) {
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
    openLora: () => {
      throw new Error('no adapter is offered');
    },
    openTransfers: transfersWith(clock),
    leaveTimes: () => ({ graceMs: 5000, timeoutMs: 60_000 }),
    startEngine:
      startEngine ??
      (async (_offer, listener) => {
        const engine = new ScriptedEngine(listenerOf(listener, 0));
        engines.push(engine);
        return new Ranks([engine]);
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
