import { afterEach, describe, expect, test } from 'vitest';
import { PortChannel } from '../../../../src/node/transfer/port-channel.ts';
import type { Channel } from '../../../../src/node/transfer/transport.ts';
import { MAX_PAYLOAD_BYTES } from '../../../../src/protocol/transfer.ts';
import { type Frame, makeFrame } from '../../../../src/protocol/transfer-frame.ts';
import { until } from '../../../support/until.ts';
import { TRANSFER, transferPair } from './pair.ts';
import { DECODE, localWay, PREFILL, RelayHub, relayWay, type Way, webrtcWay } from './stand-ins.ts';
import { FACTS } from './support.ts';
import { socketsWay } from './ws-way.ts';

const WAYS: Record<string, () => Promise<Way>> = {
  local: localWay,
  relay: relayWay,
  'relay over real sockets': socketsWay,
  webrtc: webrtcWay,
};

const open: Way[] = [];
afterEach(() => {
  for (const way of open.splice(0)) way.close();
});

async function joined(make: () => Promise<Way>, transfer = TRANSFER) {
  const way = await make();
  open.push(way);
  const { signal } = new AbortController();
  const prefill = way.prefill.accept({ transfer, peer: DECODE }, signal);
  const decode = await way.decode.open({ transfer, peer: PREFILL }, signal);
  return { way, decode, prefill };
}

/** Listens, and keeps what comes. */
function heard(channel: Channel) {
  const frames: Frame[] = [];
  const closed: string[] = [];
  channel.listen({ frame: (frame) => frames.push(frame), drained: () => {}, closed: (reason) => closed.push(reason) });
  return { frames, closed };
}

const abortFrame = (message: string) => makeFrame({ type: 'abort', transfer: TRANSFER, message });

describe.each(Object.entries(WAYS))('%s', (_name, make) => {
  test('a transfer: every byte arrives, in frames as large as they may be, and both sides know', async () => {
    const { decode, prefill } = await joined(make);
    const facts = { ...FACTS, layers: 3, layerBlockBytes: 100_000 };
    const pair = transferPair({ facts, blocks: 12, credit: 3, decode, prefill });
    pair.computed(5);
    await until(() => pair.reservation.writes.length > 0);
    pair.computed(12);
    await until(() => pair.closed.length > 0 && pair.outcomes.length > 0);
    expect(pair.outcomes[0]).toMatchObject({ kind: 'done', blocks: 12, bytes: 12 * 3 * 2 * 100_000 });
    expect(pair.closed[0]?.failed).toBeNull();
    expect(pair.reservation.isWhole()).toBe(true);
  });

  test('the largest frame goes through, and what was sent before close too', async () => {
    const { decode, prefill } = await joined(make);
    const { frames } = heard(decode);
    const sender = await prefill;
    heard(sender);
    const payload = new Uint8Array(MAX_PAYLOAD_BYTES).map((_, at) => at % 251);
    const copy = Buffer.from(payload);
    sender.send({ head: abortFrame('large').head, payload });
    sender.send(abortFrame('last'));
    sender.close();
    await until(() => frames.length === 2);
    expect(copy.equals(frames[0]!.payload)).toBe(true);
    expect(new TextDecoder().decode(frames[1]!.head)).toContain('last');
  });

  test('the decode side gives up: the prefill side hears why, and what it sends then is late, never written', async () => {
    const { way, decode, prefill } = await joined(make);
    const pair = transferPair({ decode, prefill });
    const sender = await prefill;
    pair.computed(2);
    await until(() => pair.reservation.writes.length === 1);
    pair.receiver.stop('stalled', 'too slow for me');
    sender.send(abortFrame('on its way'));
    await until(() => pair.closed.length > 0);
    expect(pair.closed[0]?.failed).toContain('too slow for me');
    expect(pair.reservation.state).toBe('aborted');
    expect(pair.reservation.writesAfterEnd).toBe(0);
    expect(way.late()).toBeLessThanOrEqual(1);
  });

  test('the prefill side gives up: the decode side hears why', async () => {
    const { decode, prefill } = await joined(make);
    const pair = transferPair({ decode, prefill });
    await prefill;
    pair.computed(2);
    await until(() => pair.reservation.writes.length === 1);
    pair.sender.stop('out of memory');
    await until(() => pair.outcomes.length > 0);
    expect(pair.outcomes[0]).toMatchObject({ kind: 'local', why: 'prefill_failed' });
    expect(pair.outcomes[0]).toHaveProperty('message', expect.stringContaining('out of memory'));
  });

  test('two transfers at a time do not meet', async () => {
    const { way, decode, prefill } = await joined(make);
    const { signal } = new AbortController();
    const second = way.prefill.accept({ transfer: 'transfer-2', peer: DECODE }, signal);
    const other = heard(await way.decode.open({ transfer: 'transfer-2', peer: PREFILL }, signal));
    const first = heard(decode);
    (await prefill).send(abortFrame('one'));
    (await second).send(abortFrame('two'));
    await until(() => first.frames.length === 1 && other.frames.length === 1);
    expect(new TextDecoder().decode(first.frames[0]!.head)).toContain('one');
    expect(new TextDecoder().decode(other.frames[0]!.head)).toContain('two');
  });
});

describe.each([
  ['local', localWay],
  ['webrtc', webrtcWay],
] as const)('%s', (_name, make) => {
  test('giving up before the other side is there rejects with the reason', async () => {
    const way = await make();
    open.push(way);
    const abort = new AbortController();
    const accepted = way.prefill.accept({ transfer: 'never', peer: DECODE }, abort.signal);
    abort.abort(new Error('not wanted any more'));
    await expect(accepted).rejects.toThrow('not wanted any more');
  });

  test('the other side closes: this one hears of it', async () => {
    const { decode, prefill } = await joined(make);
    const { closed } = heard(decode);
    const sender = await prefill;
    heard(sender);
    sender.close();
    await until(() => closed.length === 1);
  });
});

describe('local', () => {
  test('X13: payloads are moved, not copied', async () => {
    const { decode, prefill } = await joined(localWay);
    const { frames } = heard(decode);
    const sender = await prefill;
    const payload = new Uint8Array(1000).fill(7);
    sender.send({ head: abortFrame('x').head, payload });
    expect(payload.buffer.byteLength).toBe(0);
    await until(() => frames.length === 1);
    expect(frames[0]?.payload).toEqual(new Uint8Array(1000).fill(7));
  });

  test('there is no way to a node that is not in this browser, nor from one that is not attached', async () => {
    const way = await localWay();
    open.push(way);
    const { signal } = new AbortController();
    await expect(way.decode.open({ transfer: 't', peer: 'node-x' }, signal)).rejects.toThrow('not in this browser');
  });

  test('a port that another node than the expected one opened is not taken', async () => {
    const way = await localWay();
    open.push(way);
    const abort = new AbortController();
    const accepted = way.prefill.accept({ transfer: 't', peer: 'node-other' }, abort.signal);
    const { closed } = heard(await way.decode.open({ transfer: 't', peer: PREFILL }, abort.signal));
    await until(() => closed.length === 1);
    abort.abort(new Error('nobody came'));
    await expect(accepted).rejects.toThrow('nobody came');
  });

  test('garbage from the other page closes the channel', async () => {
    const { port1, port2 } = new MessageChannel();
    const { closed } = heard(new PortChannel(port1, () => {}));
    port2.postMessage('nonsense');
    await until(() => closed.length === 1);
    expect(closed[0]).toContain('no frame');
    port2.close();
  });
});

describe('relay', () => {
  test('X12: the first message is who the node is, with the secret of its welcome', async () => {
    const hub = new RelayHub();
    open.push(await relayWay(hub));
    await until(() => hub.sockets.every(({ hello }) => hello !== null));
    expect(hub.sockets.map(({ hello }) => hello)).toEqual([
      { type: 'bulk', node: DECODE, token: `secret of ${DECODE}` },
      { type: 'bulk', node: PREFILL, token: `secret of ${PREFILL}` },
    ]);
  });

  test('back-pressure: while the hub does not read, nothing more is written than the high-water mark and a frame', async () => {
    const hub = new RelayHub();
    const { decode, prefill } = await joined(() => relayWay(hub));
    const facts = { ...FACTS, layers: 1, layerBlockBytes: 1 << 19 };
    hub.stuck = true;
    const pair = transferPair({ facts, blocks: 20, credit: 64, decode, prefill });
    pair.computed(20);
    const [, socket] = hub.sockets;
    await until(() => socket!.bufferedAmount >= 4 << 20);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(socket!.bufferedAmount).toBeLessThan(6 << 20);
    hub.stuck = false;
    hub.flush();
    await until(() => pair.outcomes.length > 0);
    expect(pair.outcomes[0]).toMatchObject({ kind: 'done', blocks: 20 });
  });

  test('a lost socket ends its channels, and is opened again', async () => {
    const hub = new RelayHub();
    const { way, decode } = await joined(() => relayWay(hub));
    const { closed } = heard(decode);
    hub.sockets[0]!.listener.closed(1006, '');
    expect(closed).toEqual(['the bulk socket closed with code 1006']);
    await until(() => hub.sockets.length === 3);
    const again = await way.decode.open({ transfer: 't2', peer: PREFILL }, new AbortController().signal);
    expect(again.writable).toBe(true);
  });

  test('what belongs to no channel is counted and dropped, whatever it is', async () => {
    const hub = new RelayHub();
    const { way, decode } = await joined(() => relayWay(hub));
    const { frames } = heard(decode);
    const [socket] = hub.sockets;
    for (const bytes of [[], [9], [255, 255, 1], [1, 0, 120, 1, 2], [2, 0, 116, 116, 0, 0, 0, 0]])
      socket!.listener.message(new Uint8Array(bytes));
    expect(way.late()).toBe(5);
    expect(frames).toEqual([]);
  });

  test('a frame whose lengths are wrong closes its channel', async () => {
    const hub = new RelayHub();
    const { decode } = await joined(() => relayWay(hub));
    const { closed } = heard(decode);
    const id = new TextEncoder().encode(TRANSFER);
    hub.sockets[0]!.listener.message(new Uint8Array([id.length, 0, ...id, 255, 255, 0, 0, 1]));
    expect(closed[0]).toContain('no frame');
  });
});

describe('webrtc', () => {
  test('back-pressure: never more in the data channel than the high-water mark and a frame', async () => {
    const way = await webrtcWay();
    open.push(way);
    const { signal } = new AbortController();
    const prefill = way.prefill.accept({ transfer: TRANSFER, peer: DECODE }, signal);
    const decode = await way.decode.open({ transfer: TRANSFER, peer: PREFILL }, signal);
    const facts = { ...FACTS, layers: 1, layerBlockBytes: 1 << 19 };
    const pair = transferPair({ facts, blocks: 20, credit: 64, decode, prefill });
    pair.computed(20);
    await until(() => pair.outcomes.length > 0);
    expect(pair.outcomes[0]).toMatchObject({ kind: 'done', blocks: 20 });
    const longest = Math.max(...way.pipes.map((pipe) => pipe.longest));
    expect(longest).toBeLessThan(6 << 20);
  });

  test.each([
    ['an empty message', new Uint8Array(0)],
    ['a length beyond every frame', new Uint8Array([255, 255, 255, 255])],
    ['more bytes than its frame', new Uint8Array([4, 0, 0, 0, 0, 0, 0, 0, 9])],
    ['a message too short for a length', new Uint8Array([1, 0])],
  ])('%s closes the channel', async (_name, bytes) => {
    const way = await webrtcWay();
    open.push(way);
    const { signal } = new AbortController();
    void way.prefill.accept({ transfer: TRANSFER, peer: DECODE }, signal);
    const { closed } = heard(await way.decode.open({ transfer: TRANSFER, peer: PREFILL }, signal));
    way.pipes[0]!.onmessage?.(new MessageEvent('message', { data: bytes.buffer }));
    expect(closed[0]).toContain('no frame');
  });
});
