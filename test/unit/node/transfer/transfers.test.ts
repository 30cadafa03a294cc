import { describe, expect, test } from 'vitest';
import { ClusterNode } from '../../../../src/node/cluster-node.ts';
import { listenerOf, Ranks } from '../../../../src/node/ranks.ts';
import { SnapshotFeed } from '../../../../src/node/snapshot-feed.ts';
import { LocalTransport } from '../../../../src/node/transfer/local.ts';
import type { GenerateRequest } from '../../../../src/protocol/generate.ts';
import type { NodeMessage, Role } from '../../../../src/protocol/messages.ts';
import { GREEDY } from '../../../../src/protocol/sampling.ts';
import type { TransportName } from '../../../../src/protocol/transfer.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { transfersWith } from '../../../support/open-transfers.ts';
import { ScriptedEngine, scriptedToken } from '../../../support/scripted-engine.ts';
import { until } from '../../../support/until.ts';
import { fakeSockets, WELCOME } from '../fake-socket.ts';
import { DECODE, localWay, PREFILL } from './stand-ins.ts';
import { settled } from './support.ts';

const PROMPT = Array.from({ length: 100 }, (_, at) => at * 3 + 1);
const BLOCKS = Math.floor(99 / 16);
const TRANSFER = 't-1';

const generateOf = (request: string): GenerateRequest => ({
  request,
  prompt: PROMPT,
  choices: [{ choice: 0, generated: [] }],
  sampling: { ...GREEDY, maxTokens: 2 },
});

async function node(role: Role, id: string, transports: LocalTransport[]) {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const engines: ScriptedEngine[] = [];
  const feed = new SnapshotFeed(clock, () => {});
  const cluster = new ClusterNode({
    connect: sockets.connect,
    clock,
    random: () => 0,
    ticket: null,
    agent: 'test',
    room: null,
    query: '',
    feed,
    leaveTimes: () => ({ graceMs: 5000, timeoutMs: 60_000 }),
    startEngine: async (_offer, listener) => {
      const engine = new ScriptedEngine(listenerOf(listener, 0), { maxNumBatchedTokens: 32 });
      engines.push(engine);
      return new Ranks([engine]);
    },
    openLora: () => {
      throw new Error('no adapter is offered');
    },
    openTransfers: transfersWith(clock, role, transports),
  });
  cluster.join();
  sockets.last().listener.opened();
  sockets.last().say({ ...WELCOME, node: id, epoch: 7 });
  await until(() => sockets.last().of('register').length === 1);
  sockets.last().say({ type: 'registered', node: id });
  return { clock, cluster, feed, hub: sockets.last(), sockets, engine: engines[0]! };
}

/** A decode node and a prefill node in one browser; the test is their hub. */
async function cluster() {
  const way = await localWay();
  const local = (transport: unknown) => {
    if (!(transport instanceof LocalTransport)) throw new Error('not local');
    return [transport];
  };
  const decode = await node('decode', DECODE, local(way.decode));
  const prefill = await node('prefill', PREFILL, local(way.prefill));
  const ask = (transports: TransportName[] = ['local'], request = 'r') =>
    decode.hub.say({
      type: 'generate',
      attempt: 0,
      rank: 0,
      generate: generateOf(request),
      prefill: { transfer: TRANSFER, node: PREFILL, transports, timeoutMs: 5000 },
    });
  /** Passes the decode node's word on, as the hub does. */
  const order = () => {
    const [open] = decode.hub.of('transfer_open');
    if (!open) throw new Error('the decode node opened nothing');
    const { transport, wanted, credit } = open;
    prefill.hub.say({
      ...{ type: 'prefill', rank: 0, transfer: TRANSFER, peer: DECODE, transport, credit, timeoutMs: 5000 },
      generate: generateOf(TRANSFER),
      // As it reads in the JSON that a node sends.
      wanted: { firstBlock: wanted.firstBlock, hashes: wanted.hashes.map(String) as unknown as bigint[] },
    });
  };
  const tokens = () => decode.hub.of('tokens').flatMap(({ frames }) => frames.flatMap((frame) => frame.tokens));
  return { way, decode, prefill, ask, order, tokens };
}

/** The decode node is asked; `while blocks move`: and the first ones are on their way. */
async function asked(when: string) {
  const all = await cluster();
  all.ask();
  if (when === 'while blocks move') {
    await until(() => all.decode.hub.of('transfer_open').length === 1);
    all.order();
    all.prefill.engine.step();
    await settled();
  }
  return all;
}

type Hub = Awaited<ReturnType<typeof node>>['hub'];
const last = <T extends NodeMessage['type']>(hub: Hub, type: T) => hub.of(type).at(-1);

const EXPECTED = [scriptedToken(PROMPT, 0, 0), scriptedToken(PROMPT, 0, 1)];

describe('X: a decode node and a prefill node', () => {
  test('the card names role, transports and scope', async () => {
    const { decode, prefill } = await cluster();
    const told = { transports: ['local'], localScope: 'scope-1' };
    expect(decode.hub.of('register')[0]?.card).toMatchObject({ role: 'decode', ...told });
    expect(prefill.hub.of('register')[0]?.card).toMatchObject({ role: 'prefill', ...told });
  });

  test('X1, X10, X11: the prompt is computed on one, its blocks move, the other one hits them and gives the tokens', async () => {
    const { decode, prefill, ask, order, tokens } = await cluster();
    ask();
    await until(() => decode.hub.of('transfer_open').length === 1);
    expect(decode.hub.of('transfer_open')[0]).toMatchObject({ epoch: 7, transfer: TRANSFER, transport: 'local' });
    expect(decode.hub.of('transfer_open')[0]?.wanted.hashes).toHaveLength(BLOCKS);
    order();
    for (let i = 0; i < 4; i++) {
      prefill.engine.step();
      await settled();
    }
    await until(() => prefill.hub.of('prefill_closed').length === 1);
    const bytes = BLOCKS * 2 * 2 * 64;
    const computedTokens = PROMPT.length;
    expect(last(decode.hub, 'transfer_closed')).toMatchObject({
      epoch: 7,
      outcome: { kind: 'done', transport: 'local', blocks: BLOCKS, bytes, computedTokens, cachedTokens: 0 },
    });
    expect(last(prefill.hub, 'prefill_closed')).toMatchObject({
      epoch: 7,
      computedTokens,
      blocks: BLOCKS,
      bytes,
      failed: null,
    });
    expect(prefill.engine.cancelled).toEqual([TRANSFER]);
    expect(prefill.feed.current.handedOver).toEqual({ active: 0, taken: 0, given: BLOCKS, lateFrames: 0 });
    expect(decode.feed.current.handedOver).toEqual({ active: 0, taken: BLOCKS, given: 0, lateFrames: 0 });
    decode.engine.step();
    decode.engine.step();
    expect(tokens()).toEqual(EXPECTED);
    expect(decode.hub.of('tokens')[0]?.frames[0]?.cachedTokens).toBe(BLOCKS * 16);
    expect(decode.engine.load().counters.prefillRows).toBe(PROMPT.length - BLOCKS * 16);
  });

  test('X10: where no transport opens, the decode node computes the prompt itself and says why', async () => {
    const { decode, ask, tokens } = await cluster();
    ask(['webrtc', 'relay']);
    await until(() => decode.hub.of('transfer_closed').length === 1);
    expect(last(decode.hub, 'transfer_closed')).toMatchObject({ outcome: { kind: 'local', why: 'no_transport' } });
    expect(decode.engine.kv.reserved).toBe(0);
    decode.engine.step();
    decode.engine.step();
    expect(tokens()).toEqual(EXPECTED);
    expect(decode.engine.load().counters.prefillRows).toBe(PROMPT.length);
  });

  test('X8: a prefill node that never comes: after the time the decode node computes the prompt itself', async () => {
    const { decode, ask, tokens } = await cluster();
    ask();
    await until(() => decode.hub.of('transfer_open').length === 1);
    decode.clock.advance(5000);
    expect(last(decode.hub, 'transfer_closed')).toMatchObject({ outcome: { kind: 'local', why: 'stalled' } });
    expect(decode.engine.kv.reserved).toBe(0);
    decode.engine.step();
    decode.engine.step();
    expect(tokens()).toEqual(EXPECTED);
  });

  test('blocks that are cached already: nothing is opened', async () => {
    const { decode, ask } = await cluster();
    decode.engine.prefill(generateOf('warm'));
    for (let i = 0; i < 4; i++) decode.engine.step();
    ask();
    expect(last(decode.hub, 'transfer_closed')).toMatchObject({ outcome: { kind: 'local', why: 'cached' } });
    expect(decode.hub.of('transfer_open')).toEqual([]);
  });

  test.each(['before it is open', 'while blocks move'])(
    'X11: the hub cancels %s: the decode node goes on alone',
    async (when) => {
      const { decode, tokens } = await asked(when);
      decode.hub.say({ type: 'transfer_cancel', transfer: TRANSFER, message: 'the prefill node is gone' });
      await until(() => decode.hub.of('transfer_closed').length === 1);
      expect(last(decode.hub, 'transfer_closed')).toMatchObject({
        outcome: { kind: 'local', message: 'the prefill node is gone' },
      });
      expect(decode.engine.kv.reserved).toBe(0);
      decode.engine.step();
      decode.engine.step();
      expect(tokens()).toEqual(EXPECTED);
    },
  );

  test.each(['before it is open', 'while blocks move'])(
    'G4: the request is cancelled %s: nothing is held on either node, and nothing runs',
    async (when) => {
      const { decode, prefill, tokens } = await asked(when);
      decode.hub.say({ type: 'cancel', request: 'r', attempt: 0 });
      expect(decode.engine.kv.reserved).toBe(0);
      expect(decode.hub.of('transfer_closed')).toHaveLength(1);
      if (when === 'while blocks move') {
        await until(() => prefill.hub.of('prefill_closed').length === 1);
        expect(last(prefill.hub, 'prefill_closed')?.failed).toContain('cancelled');
        expect(prefill.engine.cancelled).toEqual([TRANSFER]);
      }
      decode.engine.step();
      expect(tokens()).toEqual([]);
    },
  );

  test('the prefill node is cancelled by the hub: its engine holds nothing', async () => {
    const { decode, prefill, ask, order } = await cluster();
    ask();
    await until(() => decode.hub.of('transfer_open').length === 1);
    order();
    prefill.engine.step();
    prefill.hub.say({ type: 'transfer_cancel', transfer: TRANSFER, message: 'the decode node is gone' });
    expect(last(prefill.hub, 'prefill_closed')?.failed).toBe('the decode node is gone');
    expect(prefill.engine.kv.prefills.size).toBe(0);
  });

  test('a node that loses its hub ends its transfers without a word', async () => {
    const { decode, prefill, ask, order } = await cluster();
    ask();
    await until(() => decode.hub.of('transfer_open').length === 1);
    order();
    prefill.engine.step();
    for (const each of [decode, prefill]) each.hub.drop(1006);
    expect(decode.engine.kv.reserved).toBe(0);
    expect(prefill.engine.kv.prefills.size).toBe(0);
    expect(decode.hub.of('transfer_closed')).toEqual([]);
  });

  test('D1: a prefill node that drains takes no new prompts, and finishes those it has', async () => {
    const { decode, prefill, ask, order } = await cluster();
    ask();
    await until(() => decode.hub.of('transfer_open').length === 1);
    order();
    const left = prefill.cluster.leave('drain');
    prefill.hub.say({ type: 'unregistered' });
    let isLeft = false;
    void left.then(() => {
      isLeft = true;
    });
    await settled();
    expect(isLeft).toBe(false);
    prefill.hub.say({
      ...{ type: 'prefill', rank: 0, transfer: 't-2', peer: DECODE, transport: 'local', credit: 1, timeoutMs: 5000 },
      generate: generateOf('t-2'),
      wanted: { firstBlock: 0, hashes: ['1' as unknown as bigint] },
    });
    expect(last(prefill.hub, 'prefill_closed')).toMatchObject({
      transfer: 't-2',
      failed: expect.stringContaining('leaving'),
    });
    for (let i = 0; i < 4; i++) {
      prefill.engine.step();
      await settled();
    }
    await left;
    expect(prefill.hub.of('prefill_closed').find(({ transfer }) => transfer === TRANSFER)?.failed).toBeNull();
  });

  test('X4: a prefill node does nothing for blocks that are not those of the prompt', async () => {
    const { prefill } = await cluster();
    prefill.hub.say({
      ...{ type: 'prefill', rank: 0, transfer: TRANSFER, peer: DECODE, transport: 'local', credit: 1, timeoutMs: 5000 },
      generate: generateOf(TRANSFER),
      wanted: { firstBlock: 0, hashes: ['1' as unknown as bigint] },
    });
    expect(last(prefill.hub, 'prefill_closed')?.failed).toContain('not those of the prompt');
    expect(prefill.engine.kv.prefills.size).toBe(0);
  });
});
