import { describe, expect, test } from 'vitest';
import { cardOf } from '../../../src/node/card.ts';
import { Link, type LinkListener } from '../../../src/node/link.ts';
import { CLOSE } from '../../../src/protocol/close-codes.ts';
import type { HubMessage } from '../../../src/protocol/messages.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { SCRIPTED_INFO } from '../../support/scripted-engine.ts';
import { fakeSockets, WELCOME } from './fake-socket.ts';

const CARD = cardOf({ info: SCRIPTED_INFO, first: 0, size: 1 }, 'xxh3');

function setUp(options: { ticket?: string; random?: () => number } = {}) {
  const clock = new FakeClock();
  const sockets = fakeSockets();
  const heard: string[] = [];
  const lost: number[] = [];
  const left: unknown[] = [];
  const listener: LinkListener = {
    welcome: () => heard.push('welcome'),
    registered: () => heard.push('registered'),
    generate: (m) => heard.push(`generate ${m.generate.request}`),
    cancel: (m) => heard.push(`cancel ${m.request}`),
    snapshotRequested: (rank) => heard.push(`snapshot ${rank}`),
    loras: (m) => heard.push(`loras ${m.adapters.length}`),
    resetPrefixCache: () => heard.push('reset'),
    sleep: (level) => heard.push(`sleep ${level}`),
    wake: () => heard.push('wake'),
    unregistered: () => heard.push('unregistered'),
    drain: (m) => heard.push(`drain ${m.reason}`),
    transfer: (m) => heard.push(`${m.type} ${m.transfer}`),
    lost: (_reason, ms) => lost.push(ms),
    left: (problem) => left.push(problem),
  };
  const { ticket = null, random = () => 1 } = options;
  const link = new Link(
    { connect: sockets.connect, clock, random, ticket, agent: 'test', room: null, query: '' },
    listener,
  );
  const register = () => {
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    link.register(CARD);
    sockets.last().say({ type: 'registered', node: 'node-1' });
  };
  link.start();
  return { clock, sockets, heard, lost, left, link, register };
}

describe('a link', () => {
  test('X11: passes on what the hub says of transfers, and sends with the epoch of the connection', () => {
    const { sockets, heard, link, register } = setUp();
    register();
    sockets.last().say({ type: 'signal', transfer: 't', data: 'x' });
    sockets.last().say({ type: 'transfer_cancel', transfer: 't', message: 'over' });
    expect(heard.slice(-2)).toEqual(['signal t', 'transfer_cancel t']);
    link.sendTransfer({ type: 'signal', transfer: 't', data: 'y' });
    expect(sockets.last().sent.at(-1)).toEqual({ type: 'signal', epoch: WELCOME.epoch, transfer: 't', data: 'y' });
  });

  test('M3: words of transfers before `registered` break the protocol', () => {
    const { sockets } = setUp();
    sockets.last().listener.opened();
    sockets.last().say(WELCOME);
    sockets.last().say({ type: 'signal', transfer: 't', data: 'x' });
    expect(sockets.last().closedWith?.code).toBe(CLOSE.protocol);
  });

  test('J1, J3: says hello once, as the first message, with its ticket', () => {
    const { sockets } = setUp({ ticket: 'let-me-in' });
    expect(sockets.last().sent).toEqual([]);
    sockets.last().listener.opened();
    expect(sockets.last().sent).toEqual([
      { type: 'hello', versions: ['quire.v1'], agent: 'test', ticket: 'let-me-in' },
    ]);
  });

  test('J4, J5: goes through its states to registered, and only then takes requests', () => {
    const { sockets, link, heard } = setUp();
    expect(link.state).toBe('connecting');
    sockets.last().listener.opened();
    expect(link.state).toBe('greeting');
    sockets.last().say(WELCOME);
    expect(link.state).toBe('warming');
    link.register(CARD);
    expect(sockets.last().of('register')[0]?.card).toEqual(CARD);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    expect(link.state).toBe('registered');
    sockets.last().say({ type: 'kv_snapshot_request', rank: 0 });
    expect(heard).toEqual(['welcome', 'registered', 'snapshot 0']);
  });

  test.each<[string, HubMessage | { type: string }]>([
    ['a request before registered', { type: 'cancel', request: 'r', attempt: 0 }],
    ['a second welcome', WELCOME],
    ['registered without register', { type: 'registered', node: 'n' }],
    ['an unknown message', { type: 'nonsense' }],
    ['a field of another type', { type: 'ping', nonce: 'one' } as never],
  ])('M3: ends at %s, and tells the hub why', (_name, message) => {
    const { sockets, link, left } = setUp();
    const connection = sockets.last();
    connection.listener.opened();
    if (message.type !== 'registered') connection.say(WELCOME);
    connection.say(message as HubMessage);
    expect(link.state).toBe('left');
    expect(connection.of('error')[0]?.code).toBe('protocol');
    expect(connection.closedWith?.code).toBe(CLOSE.protocol);
    expect(left).toMatchObject([{ code: 'protocol' }]);
  });

  test('M3: unknown fields are ignored', () => {
    const { sockets, link } = setUp();
    sockets.last().listener.opened();
    sockets.last().say({ ...WELCOME, later: 'field' } as HubMessage);
    expect(link.state).toBe('warming');
  });

  test('L1: answers a ping with its nonce', () => {
    const { sockets, register } = setUp();
    register();
    sockets.last().say({ type: 'ping', nonce: 42 });
    expect(sockets.last().of('pong')).toEqual([{ type: 'pong', nonce: 42 }]);
  });

  test('L3: a hub that is silent for 20 s is given up, one that speaks is not', () => {
    const { clock, sockets, link, register } = setUp();
    register();
    for (let i = 0; i < 10; i++) {
      clock.advance(5000);
      sockets.last().say({ type: 'ping', nonce: i });
    }
    expect(link.state).toBe('registered');
    clock.advance(19_000);
    expect(link.state).toBe('registered');
    clock.advance(1000);
    expect(link.state).toBe('reconnecting');
    expect(sockets.connections[0]?.closedWith?.code).toBe(CLOSE.timeout);
  });

  test('J6: comes back with growing pauses between half and the whole of a bound, and starts anew once registered', () => {
    let random = 0;
    const { clock, sockets, lost, register } = setUp({ random: () => random });
    sockets.last().drop(1006);
    for (let i = 0; i < 7; i++) {
      random = i % 2;
      clock.advance(lost.at(-1) ?? 0);
      sockets.last().drop(1006);
    }
    expect(lost).toEqual([250, 500, 2000, 2000, 4000, 2000, 4000, 2000]);
    expect(sockets.connections).toHaveLength(8);
    clock.advance(lost.at(-1) ?? 0);
    register();
    random = 1;
    sockets.last().drop(1001);
    expect(lost.at(-1)).toBe(500);
  });

  test('J6: gives up after four hundred tries in a row, and says so', () => {
    const { clock, sockets, left, link } = setUp();
    for (let i = 0; i < 600 && link.state !== 'left'; i++) {
      sockets.last().drop(1006);
      clock.advance(15_000);
    }
    expect(sockets.connections).toHaveLength(401);
    expect(left).toMatchObject([{ code: 'unreachable' }]);
  });

  test('J6: a hub that was there before and takes no connection is tried anew after four seconds', () => {
    const { clock, sockets, register } = setUp();
    clock.advance(14_999);
    expect(sockets.connections).toHaveLength(1);
    register();
    sockets.last().drop(1006);
    clock.advance(500);
    expect(sockets.connections).toHaveLength(2);
    // Packets to it vanish: neither opened nor closed.
    clock.advance(4000);
    expect(sockets.last().closedWith?.code).toBe(CLOSE.timeout);
    clock.advance(1000);
    expect(sockets.connections).toHaveLength(3);
    // Once open it has its time.
    sockets.last().listener.opened();
    clock.advance(14_999);
    expect(sockets.last().closedWith).toBeNull();
  });

  test('J11: back at a hub it names the model that it was offered first', () => {
    const { clock, sockets, register } = setUp();
    sockets.last().listener.opened();
    expect(sockets.last().of('hello')[0]).not.toHaveProperty('loaded');
    register();
    sockets.last().drop(1006);
    clock.advance(500);
    sockets.last().listener.opened();
    expect(sockets.last().of('hello')[0]).toMatchObject({ loaded: WELCOME.model.fingerprint });
  });

  test('a hub that opens but never answers is tried again', () => {
    const { clock, sockets, link } = setUp();
    sockets.last().listener.opened();
    clock.advance(15_000);
    expect(link.state).toBe('reconnecting');
    expect(sockets.connections[0]?.closedWith?.code).toBe(CLOSE.timeout);
  });

  test('J7, J8: resumes with its id and secret, and tags tokens with the epoch of the new connection', () => {
    const { clock, sockets, lost, link, register } = setUp();
    register();
    link.sendTokens([]);
    expect(sockets.last().of('tokens')[0]?.epoch).toBe(1);
    sockets.last().drop(1006);
    link.sendTokens([]);
    expect(sockets.connections[0]?.of('tokens')).toHaveLength(1);
    clock.advance(lost.at(-1) ?? 0);
    sockets.last().listener.opened();
    expect(sockets.last().of('hello')[0]?.resume).toEqual({ node: 'node-1', token: 'secret' });
    sockets.last().say({ ...WELCOME, epoch: 5 });
    link.register(CARD);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    link.sendTokens([]);
    expect(sockets.last().of('tokens')[0]?.epoch).toBe(5);
  });

  test('what comes late from a connection that was given up is not heard', () => {
    const { clock, sockets, lost, heard, register } = setUp();
    register();
    const old = sockets.last();
    old.drop(1006);
    clock.advance(lost.at(-1) ?? 0);
    const before = heard.length;
    old.say({ type: 'cancel', request: 'r', attempt: 0 });
    old.drop(1006);
    expect(heard).toHaveLength(before);
    expect(lost).toHaveLength(1);
  });

  test.each(['ticket', 'version', 'model', 'replaced', 'flood', 'protocol'] as const)(
    'close code of %s is final: the hub’s words are shown, nothing is tried again',
    (name) => {
      const { clock, sockets, left, link } = setUp();
      sockets.last().listener.opened();
      sockets.last().say({ type: 'error', code: 'ticket', message: 'the words of the hub' });
      sockets.last().drop(CLOSE[name], 'cut');
      clock.advance(600_000);
      expect(link.state).toBe('left');
      expect(sockets.connections).toHaveLength(1);
      expect(left).toEqual([{ code: 'ticket', message: 'the words of the hub' }]);
    },
  );

  test('M4: a hub that does not read is given up instead of filling the memory', () => {
    const { sockets, link, register } = setUp();
    register();
    sockets.last().bufferedAmount = 33 << 20;
    link.sendTokens([]);
    expect(link.state).toBe('reconnecting');
    expect(sockets.last().closedWith?.code).toBe(CLOSE.slowReader);
    expect(sockets.last().of('tokens')).toEqual([]);
  });

  test('D3: leaving with a problem tells it first; then no timer brings it back', () => {
    const { clock, sockets, left, link, register } = setUp();
    register();
    link.leave({ code: 'engine', message: 'the GPU is gone' });
    expect(sockets.last().of('error')).toEqual([{ type: 'error', code: 'engine', message: 'the GPU is gone' }]);
    expect(sockets.last().closedWith?.code).toBe(1000);
    sockets.last().drop(1000);
    clock.advance(600_000);
    expect(sockets.connections).toHaveLength(1);
    expect(left).toEqual([null]);
  });

  test('J10: an engine out of service unregisters; what was on its way is heard, and the next register counts', () => {
    const { sockets, heard, link, left, register } = setUp();
    register();
    link.unregister({ stage: 'warming', detail: 'the GPU device was lost' });
    expect(sockets.last().of('stage')).toMatchObject([{ stage: 'warming', detail: 'the GPU device was lost' }]);
    expect(link.state).toBe('warming');
    sockets.last().say({ type: 'cancel', request: 'late', attempt: 0 });
    link.register(CARD);
    sockets.last().say({ type: 'registered', node: 'node-1' });
    expect(heard).toEqual(['welcome', 'registered', 'cancel late', 'registered']);
    expect(link.state).toBe('registered');
    expect(sockets.last().of('register')).toHaveLength(2);
    expect(left).toEqual([]);
  });
});
