import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { decode } from '@msgpack/msgpack';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { Request, Subscriber } from 'zeromq';
import * as z from 'zod';
import type { Hub } from '../../src/hub/hub.ts';
import { type KvPublisher, startZmqPublisher, type ZmqConfig } from '../../src/hub/kv-publisher/zmq-publisher.ts';
import { type BlockHasher, createBlockHasher, type HashAlgo } from '../../src/protocol/hashes.ts';
import { snapshotParts } from '../../src/protocol/kv-events.ts';
import { PrefixCache } from '../support/prefix-cache.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

const HASHERS = { xxh3: await createBlockHasher('xxh3'), sha256: await createBlockHasher('sha256') };
const low = (hash: bigint) => BigInt.asUintN(64, hash);
const log = pino({ level: 'silent' });

const Hash = z.union([z.bigint(), z.number().transform(BigInt)]);
const Event = z.union([
  z.tuple([
    z.literal('BlockStored'),
    z.array(Hash),
    Hash.nullable(),
    z.array(z.number()),
    z.number(),
    z.null(),
    z.literal('GPU'),
  ]),
  z.tuple([z.literal('BlockRemoved'), z.array(Hash), z.literal('GPU')]),
  z.tuple([z.literal('AllBlocksCleared')]),
]);
const Batch = z.tuple([z.number(), z.array(Event), z.number()]);

/** A subscriber as a router has one: follows the cache of each topic by vLLM's events alone. */
class Follower {
  /** Of each topic, the hashes as told, with the whole ones of the tokens that came with them. */
  readonly caches = new Map<string, Map<bigint, bigint>>();
  readonly seqs = new Map<string, number[]>();
  readonly #socket = new Subscriber();

  constructor(
    endpoint: string,
    topic = '',
    private readonly hasher: BlockHasher = HASHERS.xxh3,
  ) {
    this.#socket.connect(endpoint);
    this.#socket.subscribe(topic);
    void this.#follow();
  }

  async #follow(): Promise<void> {
    for await (const [topic, seq, payload] of this.#socket) {
      const name = String(topic);
      this.seqs.set(name, [...(this.seqs.get(name) ?? []), Number(seq!.readBigUInt64BE())]);
      this.take(name, payload!);
    }
  }

  take(topic: string, payload: Uint8Array): void {
    const [ts, events, rank] = Batch.parse(decode(payload, { useBigInt64: true }));
    expect(Math.abs(ts - Date.now() / 1000)).toBeLessThan(60);
    expect(topic).toContain(`:${rank}@`);
    const cache = this.caches.get(topic) ?? new Map<bigint, bigint>();
    this.caches.set(topic, cache);
    for (const event of events) {
      if (event[0] === 'AllBlocksCleared') cache.clear();
      else if (event[0] === 'BlockRemoved') for (const hash of event[1]) expect(cache.delete(hash)).toBe(true);
      else {
        const [, hashes, parent, tokens, size] = event;
        if (parent !== null) expect(cache.has(parent)).toBe(true);
        expect(tokens).toHaveLength(size * hashes.length);
        let before = parent === null ? null : (cache.get(parent) ?? 0n);
        for (const [i, hash] of hashes.entries()) {
          const own = tokens.slice(i * size, (i + 1) * size);
          before = this.hasher.blockHash(before, { tokens: own, tokensHash: this.hasher.tokensHash(own) });
          expect(hash).toBe(low(before));
          cache.set(hash, before);
        }
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

/** A subscription takes a moment to reach its publisher: resolves when the follower hears of what is told again and again. */
async function subscribed(follower: Follower, tell: () => void): Promise<void> {
  while (follower.seqs.size === 0) {
    tell();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const CONFIG: ZmqConfig = {
  endpoint: 'tcp://127.0.0.1:*',
  replayEndpoint: 'tcp://127.0.0.1:*',
  bufferSteps: 100,
  hwm: 1000,
  maxQueueSize: 1000,
  topic: 'kv',
};

/** A hub that publishes, and its endpoint: a file, so that nobody else can have taken it. */
async function startHub(hashAlgo: HashAlgo): Promise<{ hub: Hub; endpoint: string }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'quire-kv-'));
  open.push({ close: () => rm(folder, { recursive: true }) });
  const endpoint = `ipc://${folder}/events`;
  const hub = await startTestHub({ hashAlgo, kvPublisher: { ...CONFIG, endpoint, replayEndpoint: null } });
  open.push(hub);
  return { hub, endpoint };
}

async function replayed(endpoint: string, start: bigint, topic?: string) {
  const socket = new Request({ receiveTimeout: 60_000, linger: 0 });
  socket.connect(endpoint);
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(start);
  await socket.send(topic === undefined ? number : [number, topic]);
  const first = await socket.receive();
  socket.close();
  return first;
}

describe('KV events on ZMQ, over real sockets', () => {
  it.each(['xxh3', 'sha256'] as const)(
    'a subscriber follows the caches of two nodes: stored, removed, cleared, snapshot, and gone; %s',
    async (hashAlgo) => {
      const hasher = HASHERS[hashAlgo];
      const { hub, endpoint } = await startHub(hashAlgo);
      const follower = new Follower(endpoint, '', hasher);
      open.push(follower);
      const nodes = [await ScriptedNode.join(hub.url), await ScriptedNode.join(hub.url)];
      const caches = nodes.map(() => new PrefixCache(hasher, 16, 20));
      const topics = nodes.map((node) => `kv@${node.id}:0@quire-pico`);
      const same = () =>
        caches.every((cache, i) => {
          const wanted = cache.snapshot().blocks.map(({ block }) => block.blockHash);
          const found = follower.caches.get(topics[i]!);
          return found !== undefined && found.size === wanted.length && wanted.every((hash) => found.has(low(hash)));
        });
      const probe = await ScriptedNode.join(hub.url);
      let eventId = 0;
      await subscribed(follower, () =>
        probe.send({ type: 'kv_events', rank: 0, events: [{ type: 'cleared', eventId: ++eventId }] }),
      );
      for (let round = 0; round < 30; round++) {
        for (const [i, cache] of caches.entries()) {
          cache.compute(Array.from({ length: 16 * 4 }, (_, at) => (at < 32 ? at : 100 * i + round)));
          if (round % 7 === 3) cache.evict();
          if (round === 20) cache.clear();
          nodes[i]!.send({ type: 'kv_events', rank: 0, events: cache.takeEvents() });
        }
      }
      await until(same);
      expect(follower.seqs.get(topics[0]!)).toEqual(Array.from({ length: 30 }, (_, i) => i));

      // A lost event: the hub asks for a snapshot, and the subscriber has the same again.
      const [node] = nodes;
      const [cache] = caches;
      cache!.compute([...Array(48).keys()].map((i) => 7000 + i));
      cache!.takeEvents();
      cache!.compute([...Array(48).keys()].map((i) => 8000 + i));
      node!.send({ type: 'kv_events', rank: 0, events: cache!.takeEvents() });
      await node!.next('kv_snapshot_request');
      for (const snapshot of snapshotParts(cache!.snapshot(), 16))
        node!.send({ type: 'kv_snapshot', rank: 0, snapshot });
      await until(same);

      await node!.leave();
      await until(() => follower.caches.get(topics[0]!)?.size === 0);
      expect(follower.caches.get(topics[1]!)?.size).toBeGreaterThan(0);
    },
  );

  it('gives what was missed by the replay socket', async () => {
    const publisher = await started({});
    const events = [{ type: 'cleared' as const }];
    for (let i = 0; i < 4; i++) publisher.changed('n', 0, 'f', events);
    const [seq, payload] = await replayed(publisher.replayEndpoint!, 2n);
    expect(seq).toEqual(Buffer.from('0000000000000002', 'hex'));
    expect(Batch.parse(decode(payload!))[1]).toEqual([['AllBlocksCleared']]);
    const end = [Buffer.alloc(8, 0xff), Buffer.alloc(0)];
    expect(await replayed(publisher.replayEndpoint!, 4n)).toEqual(end);
    // With a second topic a request has to name its own.
    publisher.changed('n', 1, 'f', events);
    expect(await replayed(publisher.replayEndpoint!, 0n)).toEqual(end);
    const [second] = await replayed(publisher.replayEndpoint!, 0n, 'kv@n:1@model');
    expect(second).toEqual(Buffer.alloc(8));
    expect(await replayed(publisher.replayEndpoint!, 0n, 'kv@other:0@model')).toEqual(end);
  });

  it('a subscriber that never reads holds up nobody', async () => {
    const publisher = await started({ hwm: 10 });
    const slow = new Subscriber({ receiveHighWaterMark: 1 });
    open.push(slow);
    slow.connect(publisher.endpoint);
    slow.subscribe('');
    const follower = new Follower(publisher.endpoint, 'kv@b');
    open.push(follower);
    await subscribed(follower, () => publisher.changed('b', 0, 'f', [{ type: 'cleared' }]));
    const tokens = Array.from({ length: 16 }, (_, i) => i);
    const tokensHash = HASHERS.xxh3.tokensHash(tokens);
    const block = { blockHash: HASHERS.xxh3.blockHash(null, { tokensHash, tokens }), tokensHash, tokens };
    for (let i = 0; i < 5000; i++) publisher.changed('a', 0, 'f', [{ type: 'cleared' }]);
    // As long as those wait to be sent, what comes then is left out.
    const told = () => follower.caches.get('kv@b:0@model')?.size === 1;
    while (!told()) {
      publisher.changed('b', 0, 'f', [{ type: 'stored', parent: null, blocks: [block] }]);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

  it('leaves out what is beyond the queue, which the numbers show and the replay fills', async () => {
    const publisher = await started({ maxQueueSize: 5 });
    const follower = new Follower(publisher.endpoint);
    open.push(follower);
    await subscribed(follower, () => publisher.changed('probe', 0, 'f', [{ type: 'cleared' }]));
    for (let i = 0; i < 50; i++) publisher.changed('n', 0, 'f', [{ type: 'cleared' }]);
    const seen = () => follower.seqs.get('kv@n:0@model') ?? [];
    await until(() => seen().length > 0);
    // One more shows the hole, as soon as there is room for it.
    while ((seen().at(-1) ?? 0) < 50) {
      publisher.changed('n', 0, 'f', [{ type: 'cleared' }]);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(seen().filter((seq) => seq < 50).length).toBeLessThan(12);
    const hole = seen().findIndex((seq, i) => seq !== i);
    const [seq] = await replayed(publisher.replayEndpoint!, BigInt(hole), 'kv@n:0@model');
    expect(seq?.readBigUInt64BE()).toBe(BigInt(hole));
  });

  it('says in one line that zeromq is missing, or that an endpoint is taken', async () => {
    await expect(started({}, () => Promise.reject(new Error('no such package')))).rejects.toThrow(
      /^--kv-events-config: .* zeromq, which is not installed\. Run npm install zeromq.*$/,
    );
    const first = await started({});
    const taken = first.endpoint.replace('127.0.0.1', '*');
    await expect(started({ endpoint: taken })).rejects.toThrow(
      /^--kv-events-config: the endpoints cannot be opened: .*$/,
    );
  });
});

async function started(config: Partial<ZmqConfig>, load?: () => Promise<never>): Promise<KvPublisher> {
  const publisher = await startZmqPublisher({
    config: { ...CONFIG, ...config },
    modelName: () => 'model',
    now: Date.now,
    log,
    ...(load && { load }),
  });
  open.push(publisher);
  return publisher;
}
