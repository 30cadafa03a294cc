import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { decode } from '@msgpack/msgpack';
import { afterEach, describe, expect, it } from 'vitest';
import { Subscriber } from 'zeromq';
import * as z from 'zod';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { PrefixCache } from '../support/prefix-cache.ts';
import { ScriptedNode, type ScriptedNodeOptions } from '../support/scripted-node.ts';
import { PICO, startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';
import { FakeFrontend } from '../unit/dynamo/fake-frontend.ts';

const hasher = await createBlockHasher('xxh3');
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const Instance = z.object({
  type: z.literal('Endpoint'),
  component: z.string(),
  endpoint: z.string(),
  instance_id: z.number(),
  transport: z.object({ tcp: z.string() }),
});
const Model = z.object({
  type: z.literal('Model'),
  component: z.string(),
  instance_id: z.number(),
  card_json: z.looseObject({ runtime_config: z.looseObject({ total_kv_blocks: z.number() }) }),
});
const Channel = z.object({
  type: z.literal('EventChannel'),
  topic: z.string(),
  instance_id: z.number(),
  transport: z.object({ config: z.object({ endpoint: z.string() }) }),
});
const Source = z.object({
  type: z.literal('EventSource'),
  publisher_id: z.number(),
  metadata: z.object({
    worker: z.object({ worker_id: z.number(), dp_rank: z.number() }),
    recovery_target: Instance.omit({ type: true }),
  }),
});

const BUCKETS = { instances: Instance, mdc: Model, event_channels: Channel, event_sources: Source };

type HubChange = NonNullable<Parameters<typeof startTestHub>[0]>;

/** A hub whose nodes register in a folder, and what is in it. */
async function start(config: HubChange = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'quire-bridge-'));
  closers.push(() => rm(folder, { recursive: true, force: true }));
  const dynamo = { discovery: { backend: 'file', folder } as const, host: '127.0.0.1', port: 0, allow: [] };
  const hub: Hub = await startTestHub({ dynamo, ...config });
  closers.push(() => hub.close());
  const read = async <T>(bucket: string, schema: z.ZodType<T>): Promise<T[]> => {
    const where = path.join(folder, 'v1', bucket);
    const files = (await readdir(where)).filter((file) => !file.startsWith('.tmp')).sort();
    // One that is removed meanwhile is none.
    const texts = await Promise.all(files.map((file) => readFile(path.join(where, file), 'utf8').catch(() => null)));
    return texts.flatMap((text) => (text === null ? [] : [schema.parse(JSON.parse(text))]));
  };
  const records = async () => ({
    instances: await read('instances', BUCKETS.instances),
    cards: await read('mdc', BUCKETS.mdc),
    channels: await read('event_channels', BUCKETS.event_channels),
    sources: await read('event_sources', BUCKETS.event_sources),
  });
  /** Waits until so many nodes have all their records: the load's channel is the last. */
  const workers = async (count: number) => {
    for (;;) {
      const all = await records();
      const whole = all.channels.filter(({ topic }) => topic === 'kv_metrics').length;
      if (all.cards.length === count && whole === count) return all;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  return { hub, records, workers };
}

const join = async (hub: Hub, options: ScriptedNodeOptions = {}): Promise<ScriptedNode> => {
  const node = await ScriptedNode.join(hub.url, options);
  closers.push(() => node.leave());
  return node;
};

/** Path of a record's endpoint on the request plane, and the plane's address. */
function placeOf({ transport: { tcp } }: Pick<z.infer<typeof Instance>, 'transport'>) {
  const [address = '', ...rest] = tcp.split('/');
  return { address, path: rest.join('/') };
}

describe('the records of the bridge to Dynamo', () => {
  it('are there while a node is ready, one worker each, all of one card but for runtime_config', async () => {
    const { hub, workers, records } = await start();
    expect(await records()).toEqual({ instances: [], cards: [], channels: [], sources: [] });
    const small = await join(hub, { card: { totalBlocks: 64 } });
    await join(hub, { card: { totalBlocks: 128, dpSize: 2 } });
    const { instances, cards, channels, sources } = await workers(2);
    const ids = cards.map(({ instance_id }) => instance_id);
    expect(new Set(ids).size).toBe(2);
    expect(instances.filter(({ endpoint }) => endpoint === 'generate').map((each) => each.instance_id)).toEqual(ids);
    const sizes = cards.map(({ card_json }) => card_json.runtime_config.total_kv_blocks).sort((a, b) => a - b);
    expect(sizes).toEqual([64, 128]);
    const [one, other] = cards.map(({ card_json: { runtime_config, ...rest } }) => rest);
    expect(one).toEqual(other);
    // One publisher a rank, and one a node for its load; each source has a channel, and an instance to ask.
    expect(sources.map(({ metadata }) => metadata.worker.dp_rank).sort()).toEqual([0, 0, 1]);
    expect(channels.filter(({ topic }) => topic === 'kv_metrics')).toHaveLength(2);
    for (const { publisher_id, metadata } of sources) {
      expect(channels.some(({ topic, instance_id }) => topic === 'kv-events' && instance_id === publisher_id)).toBe(
        true,
      );
      expect(instances).toContainEqual({ type: 'Endpoint', ...metadata.recovery_target });
    }
    await small.leave();
    const left = await workers(1);
    expect(left.cards[0]?.card_json.runtime_config.total_kv_blocks).toBe(128);
    await hub.close();
    expect(await records()).toEqual({ instances: [], cards: [], channels: [], sources: [] });
  });

  it('are those of a new worker when a node registers anew, and none while it is ill or loads', async () => {
    const { hub, workers } = await start();
    const node = await join(hub);
    const [before] = (await workers(1)).cards;
    node.send({ type: 'stage', stage: 'warming', detail: 'again', loadedBytes: 0, totalBytes: 0 });
    await workers(0);
    node.send({ type: 'register', card: node.card() });
    const [after] = (await workers(1)).cards;
    expect(after?.instance_id).not.toBe(before?.instance_id);
  });

  it('put each model and role at an endpoint of its own', async () => {
    const models = ['a', 'b'].map((servedName) => ({ folder: PICO, servedName }));
    const { hub, workers } = await start({ models });
    await join(hub);
    await join(hub, { card: { role: 'decode' } });
    await join(hub, { card: { role: 'prefill' } });
    const { cards } = await workers(3);
    expect(new Set(cards.map(({ component }) => component)).size).toBe(3);
  });

  it('refuse to start with two models of one name for Dynamo', async () => {
    const models = ['a.b', 'a_b'].map((servedName) => ({ folder: PICO, servedName }));
    await expect(start({ models })).rejects.toThrow(/^--dynamo: Dynamo takes the names a\.b and a_b for one/);
  });
});

describe('what a router of Dynamo hears of a node', () => {
  const Stored = z.object({ blocks: z.array(z.object({ block_hash: z.bigint() })) });
  const Data = z.union([z.object({ stored: Stored }), z.literal('cleared'), z.object({ removed: z.unknown() })]);
  const Event = z.object({ event: z.object({ event_id: z.union([z.number(), z.bigint()]), data: Data }) });
  const Envelope = z.object({ payload: z.instanceof(Uint8Array) });
  const Dump = z.object({
    data: z.object({ TreeDump: z.object({ events: z.array(Event), last_event_id: z.number() }) }),
  });
  const storedIn = (events: readonly z.infer<typeof Event>[]) =>
    events.flatMap(({ event: { data } }) =>
      typeof data === 'object' && 'stored' in data ? data.stored.blocks.map(({ block_hash }) => block_hash) : [],
    );

  it('its blocks as events and, for one that comes late or missed some, whole; and the blocks in use', async () => {
    const { hub, workers } = await start();
    const node = await join(hub);
    const cache = new PrefixCache(hasher, 16);
    /** Returns the hashes of what it tells. */
    const tell = (first: number): bigint[] => {
      cache.compute(Array.from({ length: 48 }, (_, i) => first + i));
      const events = cache.takeEvents();
      node.send({ type: 'kv_events', rank: 0, events });
      return events.flatMap((event) => (event.type === 'stored' ? event.blocks.map(({ blockHash }) => blockHash) : []));
    };
    const { channels, sources, instances } = await workers(1);
    const socket = new Subscriber();
    closers.push(() => socket.close());
    socket.connect(channels[0]!.transport.config.endpoint);
    socket.subscribe('');
    const heard: { topic: string; publisher: bigint; sequence: bigint; payload: unknown }[] = [];
    void (async () => {
      for await (const [topic, publisher, sequence, body] of socket) {
        const { payload } = Envelope.parse(decode(body!.subarray(5), { useBigInt64: true }));
        heard.push({
          topic: String(topic),
          publisher: publisher!.readBigUInt64BE(),
          sequence: sequence!.readBigUInt64BE(),
          payload: decode(payload, { useBigInt64: true }),
        });
      }
    })();
    // A subscription takes a moment to reach its publisher: until then events are lost, as to any late router.
    for (let i = 0; heard.length === 0; i++) {
      tell(1000 * i);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const { publisher_id, metadata } = sources[0]!;
    expect(heard[0]).toMatchObject({ topic: 'kv-events', publisher: BigInt(publisher_id) });
    const told = tell(90_000);
    expect(told).toHaveLength(3);
    const last = () => storedIn(z.array(Event).parse(heard.at(-1)?.payload));
    await until(() => last().includes(told[0]!));
    expect(last()).toEqual(told);

    const { address, path: query } = placeOf(metadata.recovery_target);
    const frontend = await FakeFrontend.start(address);
    closers.push(() => frontend.close());
    const asked = { worker_id: 1, dp_rank: 0, start_event_id: null, end_event_id: null };
    const dumpOf = async (): Promise<z.infer<typeof Dump>['data']['TreeDump']> => {
      const [prologueOf, prologue, dump, final, sentinel] = await (await frontend.ask(query, asked)).messages(5);
      expect([prologueOf, prologue]).toMatchObject([{ stream_type: 'response' }, { error: null }]);
      expect([final, sentinel]).toEqual([{ complete_final: true }, 'sentinel']);
      return Dump.parse(dump).data.TreeDump;
    };
    const dump = await dumpOf();
    const all = cache.snapshot().blocks.map(({ block }) => block.blockHash);
    expect(new Set(storedIn(dump.events))).toEqual(new Set(all));
    cache.clear();
    node.send({ type: 'kv_events', rank: 0, events: cache.takeEvents() });
    await until(() => z.array(Event).safeParse(heard.at(-1)?.payload).data?.[0]?.event.data === 'cleared');
    expect(await dumpOf()).toEqual({ events: [], last_event_id: dump.last_event_id + 1 });

    node.load({}, { usedBlocks: 7 });
    node.load({}, { usedBlocks: 7 });
    node.load({}, { usedBlocks: 9 });
    const loads = () => heard.filter(({ topic }) => topic === 'kv_metrics');
    await until(() => loads().length >= 2);
    expect(loads().map(({ payload, sequence }) => [sequence, payload])).toMatchObject([
      [0n, { kv_used_blocks: 7, dp_rank: 0 }],
      [1n, { kv_used_blocks: 9 }],
    ]);
    expect(instances.filter(({ endpoint }) => endpoint === 'generate')).toHaveLength(1);
  });

  it("counts what comes by a native worker's names, as long as the worker is there", async () => {
    const { hub, workers } = await start({ systemPort: 0 });
    await join(hub);
    const { sources } = await workers(1);
    const target = sources[0]!.metadata.recovery_target;
    const { address, path: query } = placeOf(target);
    const frontend = await FakeFrontend.start(address);
    closers.push(() => frontend.close());
    await (await frontend.ask(query, {})).bytes();
    const labels = `dynamo_namespace="dynamo",dynamo_component="quire-backend-quire-pico",dynamo_endpoint="${target.endpoint}",worker_id="${target.instance_id.toString(16)}"`;
    const metrics = async () => (await fetch(`http://127.0.0.1:${hub.sidePorts.system}/metrics`)).text();
    await expect.poll(metrics).toContain(`dynamo_component_request_duration_seconds_count{${labels}} 1`);
    expect(await metrics()).toContain(`dynamo_component_requests_total{${labels}} 1`);
    expect(await metrics()).toContain(`dynamo_component_inflight_requests{${labels}} 0`);
    expect(await metrics()).toMatch(/dynamo_component_uptime_seconds [\d.]+/);
  });
});
