import * as fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../../src/hub/config.ts';
import { type FrameSink, type NodeDesk, NodeSocket, type Refusal, type Wire } from '../../../src/hub/node-socket.ts';
import { KvIndex } from '../../../src/hub/router/kv-index.ts';
import { CLOSE, closeReason } from '../../../src/protocol/close-codes.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { type Card, encode, HubMessage, type Load, type NodeMessage } from '../../../src/protocol/messages.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const CARD: Card = {
  model: 'm',
  fingerprint: 'f',
  numericsId: 'n',
  role: 'agg',
  dpRank: 0,
  dpSize: 2,
  transports: [],
  localScope: null,
  adapter: { vendor: '', architecture: '', device: '', description: '', software: false, features: [] },
  blockSize: 16,
  totalBlocks: 8,
  maxModelLen: 64,
  maxNumSeqs: 4,
  maxNumBatchedTokens: 64,
  kvCacheDtype: 'f32',
  hashAlgo: 'xxh3',
};
const HELLO: NodeMessage = { type: 'hello', versions: ['quire.v1'], agent: 'test' };
const REGISTER: NodeMessage = { type: 'register', card: CARD };
const LOAD: Load = {
  ...{ rank: 0, running: 0, waiting: 0, usedBlocks: 0, totalBlocks: 8, tokensPerSecond: 0 },
  counters: {
    ...{ steps: 0, mixedSteps: 0, submits: 0, overlappedSubmits: 0, rows: 0, decodeRows: 0, prefillRows: 0 },
    ...{ sampledTokens: 0, cachedTokens: 0, draftTokens: 0, acceptedTokens: 0, preemptions: 0 },
  },
};

const hasher = await createBlockHasher('xxh3');

/** A wire that keeps what is sent, and a hub that lets everybody in. */
function setUp(limits: Partial<typeof DEFAULT_LIMITS> = {}) {
  const clock = new FakeClock();
  const sent: HubMessage[] = [];
  const closes: { code: number; reason: string }[] = [];
  const told: string[] = [];
  const wire = {
    bufferedAmount: 0,
    send: (text: string) => void sent.push(HubMessage.parse(JSON.parse(text))),
    close: (code: number, reason: string) => void closes.push({ code, reason }),
  } satisfies Wire;
  const desk: NodeDesk = {
    greet: () => ({
      type: 'welcome',
      version: 'quire.v1',
      node: 'node-1',
      resumeToken: 'secret',
      epoch: 3,
      model: { name: 'm', fingerprint: 'f', base: '/models/m/', files: [] },
      blockSize: 16,
      hashAlgo: 'xxh3',
      options: {},
      live: [],
    }),
    accept: (card): Refusal | null =>
      card.fingerprint === 'f' ? null : { close: CLOSE.model, code: 'model', message: 'another model' },
    changed: () => {},
    loaded: () => {},
    left: () => void told.push('left'),
  };
  const sink: FrameSink = {
    tokens: (_, frames) => void told.push(`tokens ${frames.map((frame) => frame.offset)}`),
    failed: (_, failure) => void told.push(`failed ${failure.request}`),
    lost: (_, reason) => void told.push(`lost: ${reason}`),
  };
  const socket = new NodeSocket({
    wire,
    desk,
    sink,
    transfers: {
      receive(_, { type, transfer }) {
        told.push(`${type} ${transfer}`);
        return transfer === 'foreign' ? 'another node speaks of it' : null;
      },
    },
    index: new KvIndex(hasher, 16),
    clock,
    limits: { ...DEFAULT_LIMITS, ...limits },
    log: pino({ level: 'silent' }),
  });
  const say = (...messages: NodeMessage[]) => {
    for (const message of messages) socket.receive(encode(message));
  };
  return { clock, sent, closes, told, wire, socket, say };
}

describe('joining', () => {
  it('J1: a socket that says nothing for 5 seconds is closed; one that greets in time is not', () => {
    const silent = setUp();
    silent.clock.advance(4999);
    expect(silent.closes).toEqual([]);
    silent.clock.advance(1);
    expect(silent.closes).toEqual([{ code: CLOSE.timeout, reason: 'no hello within 5000 ms' }]);
    // Nobody knew it, so nobody is told that it left.
    expect(silent.told).toEqual([]);

    const greeted = setUp();
    greeted.clock.advance(4999);
    greeted.say(HELLO);
    greeted.clock.advance(1);
    expect(greeted.closes).toEqual([]);
    expect(greeted.socket).toMatchObject({ state: 'greeted', stage: 'joining', id: 'node-1', epoch: 3 });
  });

  it.each([
    ['another message first', [REGISTER]],
    ['a second hello', [HELLO, HELLO]],
    ['a second register', [HELLO, REGISTER, REGISTER]],
  ])('J1, J5: %s breaks the protocol', (_, messages) => {
    const { say, closes, sent, socket } = setUp();
    say(...messages);
    expect(closes.map(({ code }) => code)).toEqual([CLOSE.protocol]);
    expect(sent.at(-1)).toMatchObject({ type: 'error', code: 'protocol' });
    expect(socket.state).toBe('closed');
  });

  it('J1: a hello of more than 64 KiB is refused without being read', () => {
    const { socket, closes } = setUp();
    socket.receive(encode({ ...HELLO, agent: 'x'.repeat(70_000) }));
    expect(closes[0]).toMatchObject({ code: CLOSE.protocol, reason: expect.stringContaining('64 KiB') });
  });

  it('J4, J5: stages are shown as told, ready only after registered', () => {
    const { say, socket, sent } = setUp();
    say(HELLO, { type: 'stage', stage: 'downloading', detail: 'model.safetensors', loadedBytes: 5, totalBytes: 10 });
    expect(socket).toMatchObject({ state: 'greeted', stage: 'downloading', loadedBytes: 5, totalBytes: 10 });
    say({ type: 'stage', stage: 'ready', detail: '', loadedBytes: 10, totalBytes: 10 });
    expect(socket.state).toBe('greeted');
    say(REGISTER);
    expect(socket).toMatchObject({ state: 'ready', stage: 'ready' });
    expect(sent.map(({ type }) => type)).toEqual(['welcome', 'registered']);
  });

  it('J5: a card that does not fit the offered model is refused with the reason', () => {
    const { say, sent, closes } = setUp();
    say(HELLO, { type: 'register', card: { ...CARD, fingerprint: 'other' } });
    expect(sent.at(-1)).toEqual({ type: 'error', code: 'model', message: 'another model' });
    expect(closes).toEqual([{ code: CLOSE.model, reason: 'another model' }]);
  });

  it('a node that loads its model again is not ready meanwhile, and what ran on it is lost', () => {
    const { say, socket, told } = setUp();
    say(HELLO, REGISTER, { type: 'stage', stage: 'warming', detail: 'device lost', loadedBytes: 0, totalBytes: 0 });
    expect(socket.state).toBe('greeted');
    expect(told).toEqual(['lost: the node went back to warming: device lost']);
    say(REGISTER);
    expect(socket.state).toBe('ready');
  });
});

describe('running', () => {
  const tokens = (epoch: number): NodeMessage => ({
    type: 'tokens',
    epoch,
    frames: [{ request: 'r', attempt: 0, choice: 0, offset: 7, tokens: [1] }],
  });

  it('J7: tokens and failures of another epoch are dropped, those of this one go on', () => {
    const { say, told, closes } = setUp();
    say(HELLO, REGISTER, tokens(2), tokens(4));
    say({ type: 'failed', epoch: 2, request: 'r', attempt: 0, code: 'engine', message: '' });
    expect(told).toEqual([]);
    say(tokens(3), { type: 'failed', epoch: 3, request: 'q', attempt: 0, code: 'engine', message: '' });
    expect(told).toEqual(['tokens 7', 'failed q']);
    expect(closes).toEqual([]);
  });

  it('D1: a draining node takes nothing more and finishes what it has', () => {
    const { say, socket, told } = setUp();
    say(HELLO, REGISTER, { type: 'drain', reason: 'the page closes' });
    expect(socket).toMatchObject({ state: 'draining', stage: 'draining', detail: 'the page closes' });
    say(tokens(3));
    expect(told).toEqual(['tokens 7']);
  });

  it('K8: at a gap the hub asks for the snapshot of that rank, once', () => {
    const { say, sent } = setUp();
    const cleared = (eventId: number): NodeMessage => ({
      type: 'kv_events',
      rank: 1,
      events: [{ type: 'cleared', eventId }],
    });
    say(HELLO, REGISTER, cleared(1), cleared(3), cleared(4));
    expect(sent.filter(({ type }) => type === 'kv_snapshot_request')).toEqual([
      { type: 'kv_snapshot_request', rank: 1 },
    ]);
    say({ type: 'kv_snapshot', rank: 1, snapshot: { lastEventId: 4, part: 0, parts: 1, blocks: [] } }, cleared(5));
    expect(sent.filter(({ type }) => type === 'kv_snapshot_request')).toHaveLength(1);
  });

  it.each<[string, NodeMessage]>([
    ['KV events', { type: 'kv_events', rank: 2, events: [] }],
    ['the load', { type: 'load', load: { ...LOAD, rank: 2 } }],
  ])('J5: %s of a rank that is not on the card break the protocol', (what, message) => {
    const { say, sent } = setUp();
    say(HELLO, REGISTER, message);
    expect(sent.at(-1)).toMatchObject({
      type: 'error',
      code: 'protocol',
      message: `${what} of rank 2, which the node has not`,
    });
  });

  it('closing is leaving, once', () => {
    const { say, socket, told } = setUp();
    say(HELLO, REGISTER);
    socket.closed('its socket closed with code 1006');
    socket.closed('again');
    expect(told).toEqual(['left', 'lost: its socket closed with code 1006']);
    say(tokens(3));
    expect(told).toHaveLength(2);
  });

  it('D3: a node that says why it fails is remembered by its words, not by what a close frame holds of them', () => {
    const { say, socket, told } = setUp();
    const message = `The GPU device was lost: ${'it went away '.repeat(20)}`;
    say(HELLO, REGISTER, { type: 'error', code: 'engine', message });
    socket.closed(closeReason(message));
    expect(told).toEqual(['left', `lost: ${message}`]);
  });
});

describe('bounds', () => {
  it('L2: two pings without an answer, and the node is gone; one that answers stays', () => {
    const dead = setUp();
    dead.say(HELLO);
    dead.clock.advance(14_999);
    expect(dead.sent.filter(({ type }) => type === 'ping')).toHaveLength(2);
    expect(dead.closes).toEqual([]);
    dead.clock.advance(1);
    expect(dead.closes[0]?.code).toBe(CLOSE.timeout);

    const alive = setUp();
    alive.say(HELLO);
    for (let tick = 0; tick < 20; tick++) {
      alive.clock.advance(5000);
      const ping = alive.sent.at(-1);
      if (ping?.type === 'ping') alive.say({ type: 'pong', nonce: ping.nonce });
    }
    expect(alive.closes).toEqual([]);
    expect(alive.sent.filter(({ type }) => type === 'ping')).toHaveLength(20);
  });

  it('L2: an answer to a ping that was never sent is none; a late answer is one', () => {
    const liar = setUp();
    liar.say(HELLO);
    liar.clock.advance(10_000);
    liar.say({ type: 'pong', nonce: 999 });
    liar.clock.advance(5000);
    expect(liar.closes[0]?.code).toBe(CLOSE.timeout);

    const slow = setUp();
    slow.say(HELLO);
    slow.clock.advance(10_000);
    slow.say({ type: 'pong', nonce: 1 });
    slow.clock.advance(5000);
    expect(slow.closes).toEqual([]);
  });

  it('L2: a node that still reads a long message, with the pings behind it, is not gone; one that stops to read is', () => {
    const { clock, wire, closes, say } = setUp();
    say(HELLO);
    clock.advance(4000);
    for (const unread of [20 << 20, 15 << 20, 10 << 20, 5 << 20, 1 << 20]) {
      wire.bufferedAmount = unread;
      clock.advance(5000);
      expect(closes).toEqual([]);
    }
    clock.advance(5000);
    expect(closes[0]?.code).toBe(CLOSE.timeout);
  });

  it('M4: a flood of messages or of bytes closes the node; the same amount over time does not', () => {
    const pong: NodeMessage = { type: 'pong', nonce: 0 };
    const flood = setUp({ messagesPerSecond: 100 });
    flood.say(HELLO, ...Array<NodeMessage>(200).fill(pong));
    expect(flood.closes[0]?.code).toBe(CLOSE.flood);

    const large = setUp({ bytesPerSecond: 1000 });
    large.say(HELLO, { type: 'error', code: 'engine', message: 'x'.repeat(2000) });
    expect(large.closes[0]?.code).toBe(CLOSE.flood);

    const steady = setUp({ messagesPerSecond: 100, pingMs: 1e9 });
    steady.say(HELLO);
    for (let i = 0; i < 1000; i++) {
      steady.clock.advance(10);
      steady.say(pong);
    }
    expect(steady.closes).toEqual([]);
  });

  it('M4: a node that does not read is closed, whatever the hub wants to send', () => {
    const { say, wire, socket, closes, told } = setUp({ maxBufferedBytes: 1000 });
    say(HELLO, REGISTER);
    wire.bufferedAmount = 1000;
    socket.send({ type: 'cancel', request: 'r', attempt: 0 });
    expect(closes).toEqual([]);
    wire.bufferedAmount = 1001;
    socket.send({ type: 'cancel', request: 'r', attempt: 0 });
    expect(closes[0]?.code).toBe(CLOSE.slowReader);
    expect(told.at(-1)).toContain('lost');
  });

  it('M4: a node has at most 64 ranks', () => {
    const { say, closes } = setUp();
    say(HELLO, REGISTER);
    for (let rank = 0; rank <= 64; rank++) say({ type: 'kv_events', rank, events: [] });
    expect(closes[0]?.code).toBe(CLOSE.protocol);
  });

  it('M3: no text whatever throws or leaves the socket in doubt', () => {
    const type = fc.constantFrom(
      'hello',
      'stage',
      'register',
      'tokens',
      'failed',
      'kv_events',
      'kv_snapshot',
      'load',
      'pong',
      'drain',
      'error',
      '__proto__',
    );
    const texts = fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .tuple(type, fc.dictionary(fc.string(), fc.jsonValue()))
        .map(([name, rest]) => JSON.stringify({ ...rest, type: name })),
    );
    fc.assert(
      fc.property(fc.array(texts, { maxLength: 10 }), (messages) => {
        const { socket, say, closes } = setUp();
        say(HELLO, REGISTER);
        for (const text of messages) socket.receive(text);
        expect(closes.length).toBe(socket.state === 'closed' ? 1 : 0);
        for (const { code, reason } of closes) {
          expect(code).toBe(CLOSE.protocol);
          expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(123);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('M3: unknown fields are ignored', () => {
    const { socket, closes } = setUp();
    socket.receive(JSON.stringify({ ...HELLO, future: { field: 1 } }));
    expect(closes).toEqual([]);
    expect(socket.state).toBe('greeted');
  });

  it('a long reason fits the close frame and does not end in half a character', () => {
    const { say, socket, closes } = setUp();
    say(HELLO);
    socket.refuse({ close: CLOSE.protocol, code: 'protocol', message: 'é'.repeat(200) });
    expect(closes[0]?.reason).toBe(`${'é'.repeat(60)}…`);
  });
});
