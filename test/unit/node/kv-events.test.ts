import { describe, expect, it } from 'vitest';
import type { EngineListener } from '../../../src/engine/api.ts';
import { KvIndex } from '../../../src/hub/router/kv-index.ts';
import { ClusterNode } from '../../../src/node/cluster-node.ts';
import { listenerOf, Ranks } from '../../../src/node/ranks.ts';
import { SnapshotFeed } from '../../../src/node/snapshot-feed.ts';
import { createBlockHasher, type HashAlgo } from '../../../src/protocol/hashes.ts';
import { NodeMessage } from '../../../src/protocol/messages.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { transfersWith } from '../../support/open-transfers.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';
import { type Arrival, simulate } from '../engine/simulation.ts';
import { node, overlapOf, request } from '../hub/router/setup.ts';
import { fakeSockets, WELCOME } from './fake-socket.ts';

/** Conversations with shared beginnings, more than the pool holds: blocks are stored, hit and evicted. */
const ARRIVALS: readonly Arrival[] = Array.from({ length: 60 }, (_, i) => ({
  tick: 3 * i,
  prompt: [...Array.from({ length: 8 }, () => i % 3), ...Array.from({ length: 7 }, (_, at) => (i * at) % 4)],
  sampling: { maxTokens: 6 },
  ...(i % 5 === 0 ? { cacheSalt: 'tenant-a' } : {}),
}));

/** The text of all that a node with the real scheduler and block manager tells its hub of its cache, message by message. */
async function told(algo: HashAlgo, query = ''): Promise<string[]> {
  const hasher = await createBlockHasher(algo);
  const { events } = simulate(ARRIVALS, {
    depth: 2,
    maxNumSeqs: 4,
    maxNumBatchedTokens: 16,
    maxModelLen: 40,
    maxLogitRows: 16,
    totalBlocks: 24,
    blockSize: 4,
    prefixCaching: true,
    maxDrafts: 0,
    hasher,
  });
  const sockets = fakeSockets();
  const clock = new FakeClock();
  let engine: EngineListener | null = null;
  new ClusterNode({
    connect: sockets.connect,
    clock,
    random: () => 0,
    ticket: null,
    agent: 'test',
    room: null,
    query,
    feed: new SnapshotFeed(clock, () => {}),
    openLora: () => {
      throw new Error('no adapter is offered');
    },
    openTransfers: transfersWith(clock),
    leaveTimes: () => ({ graceMs: 0, timeoutMs: 0 }),
    startEngine: async (_offer, listener) => {
      engine = listenerOf(listener, 0);
      return new Ranks([new ScriptedEngine(engine, { blockSize: 4 })]);
    },
  }).join();
  sockets.last().listener.opened();
  sockets.last().say(WELCOME);
  await new Promise((resolve) => setImmediate(resolve));
  sockets.last().say({ type: 'registered', node: 'node-1' });
  for (const event of events) (engine as EngineListener | null)?.kvEvents([event]);
  return sockets
    .last()
    .sent.filter(({ type }) => type === 'kv_events' || type === 'kv_snapshot')
    .map((message) => JSON.stringify(message));
}

describe.each<HashAlgo>(['xxh3', 'sha256'])('KV events through the link, %s', (algo) => {
  it('K6: two runs of the same requests tell the same, byte for byte', async () => {
    const [first, second] = [await told(algo), await told(algo)];
    expect(first.length).toBeGreaterThan(60);
    expect(first.some((text) => text.includes('"removed"'))).toBe(true);
    expect(second).toEqual(first);
  });

  it('K8 to K10: the hub takes every one of them, from the snapshot at the start on, and then knows what is cached', async () => {
    const hasher = await createBlockHasher(algo);
    const index = new KvIndex(hasher, 4);
    const rank = index.open('a', 0, node('a', { totalBlocks: 24 }).card);
    const texts = await told(algo);
    expect(NodeMessage.parse(JSON.parse(texts[0] ?? '')).type).toBe('kv_snapshot');
    for (const text of texts) {
      const message = NodeMessage.parse(JSON.parse(text));
      if (message.type === 'kv_snapshot') expect(rank.part(message.snapshot)).toEqual({ kind: 'taken' });
      else if (message.type === 'kv_events') expect(rank.append(message.events)).toEqual({ kind: 'taken' });
    }
    expect(rank.ledger.gaps).toBe(0);
    const last = ARRIVALS.at(-1)!;
    expect(overlapOf(index.match('f', request([...last.prompt])), 'a')).toBe(3);
  });
});

it.each(['{"enable_kv_cache_events":false}', '{"publisher":"null"}'])(
  'K8: nobody hears of them with %s',
  async (config) => {
    expect(await told('xxh3', `?kv-events-config=${encodeURIComponent(config)}`)).toEqual([]);
  },
);
