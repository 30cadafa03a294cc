import * as fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DEFAULT_LIMITS, type HubLimits } from '../../../../src/hub/config.ts';
import { BulkRelay, type BulkSocket } from '../../../../src/hub/disagg/relay.ts';
import type { Passage } from '../../../../src/hub/disagg/transfers.ts';
import { CLOSE } from '../../../../src/protocol/close-codes.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

/** `frame` bytes for a transfer, as a node sends them. */
function message(transfer: string, frame: Uint8Array | number): Uint8Array {
  const id = new TextEncoder().encode(transfer);
  const bytes = typeof frame === 'number' ? new Uint8Array(frame) : frame;
  return new Uint8Array([id.length & 255, id.length >> 8, ...id, ...bytes]);
}

class FakeWire {
  readonly unwritten: { message: Uint8Array; written: () => void }[] = [];
  readonly got: Uint8Array[] = [];
  paused = false;
  closedWith: { code: number; reason: string } | null = null;

  send(message: Uint8Array, written: () => void): void {
    this.unwritten.push({ message, written });
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  close(code: number, reason: string): void {
    this.closedWith = { code, reason };
  }
  /** The network takes the oldest message. */
  take(): void {
    const next = this.unwritten.shift();
    if (next === undefined) return;
    this.got.push(next.message);
    next.written();
  }
}

/** A relay where transfer `a>b` is open between nodes `a` and `b`. */
function setUp(change: Partial<HubLimits> = {}) {
  const clock = new FakeClock();
  const limits = { ...DEFAULT_LIMITS, bulkBufferedBytes: 1000, bulkTotalBytes: 5000, ...change };
  const cancelled: string[] = [];
  const over = new Set<string>();
  const relay = new BulkRelay({
    transfers: {
      passage(id, node): Passage {
        const [from, to] = id.split('>');
        if (over.has(id) || to === undefined) return { kind: 'nobody' };
        if (node !== from && node !== to) return { kind: 'stranger' };
        return { kind: 'to', node: (node === from ? to : from) as string };
      },
      cancel: (id) => void cancelled.push(id),
      channelLost: (node) => void cancelled.push(`all of ${node}`),
    },
    known: (node, token) => token === `token of ${node}`,
    clock,
    limits,
    log: pino({ level: 'silent' }),
  });
  const open = () => {
    const wire = new FakeWire();
    return { wire, socket: relay.join(wire) };
  };
  const hello = (socket: BulkSocket, node: string, token = `token of ${node}`) =>
    socket.text(JSON.stringify({ type: 'bulk', node, token }));
  const node = (id: string) => {
    const opened = open();
    hello(opened.socket, id);
    return opened;
  };
  return { relay, clock, cancelled, over, open, hello, node };
}

describe('R9, R10: the bulk relay', () => {
  it('brings frames to the other end of their transfer, whole and in order, and to nobody else', () => {
    const { node, relay } = setUp();
    const [a, b, c] = [node('a'), node('b'), node('c')];
    const frames = [1, 2, 3].map((byte) => message('a>b', new Uint8Array([byte])));
    for (const frame of frames) a.socket.binary(frame);
    b.socket.binary(message('a>b', new Uint8Array([9])));
    for (let i = 0; i < 3; i++) b.wire.take();
    a.wire.take();
    expect(b.wire.got).toEqual(frames);
    expect(a.wire.got).toEqual([message('a>b', new Uint8Array([9]))]);
    expect(c.wire.unwritten).toEqual([]);
    expect(relay.waiting).toBe(0);
  });

  it.each<[string, (socket: BulkSocket) => void, number]>([
    ['a frame before hello', (socket) => socket.binary(message('a>b', 1)), CLOSE.protocol],
    ['a text that is no hello', (socket) => socket.text('{}'), CLOSE.protocol],
    ['no JSON', (socket) => socket.text('{'), CLOSE.protocol],
    ['a long hello', (socket) => socket.text(' '.repeat(9000)), CLOSE.protocol],
    ['a wrong token', (socket) => socket.text('{"type":"bulk","node":"a","token":"x"}'), CLOSE.ticket],
  ])('%s closes the socket', (_, say, code) => {
    const { open, relay } = setUp();
    const { wire, socket } = open();
    say(socket);
    expect(wire.closedWith?.code).toBe(code);
    expect(relay.size).toBe(0);
  });

  it.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['no id', new Uint8Array([0, 0, 1])],
    ['an id longer than the message', new Uint8Array([9, 0, 1])],
    ['an id longer than any', message('x'.repeat(600), 1)],
    ['the transfer of others', message('b>c', 1)],
  ])('a frame of %s closes with 4400', (_, bytes) => {
    const { node } = setUp();
    const a = node('a');
    a.socket.binary(bytes);
    expect(a.wire.closedWith?.code).toBe(CLOSE.protocol);
  });

  it('a second hello closes; a second socket takes the place of the first', () => {
    const { node, hello, cancelled } = setUp();
    const [first, b] = [node('a'), node('b')];
    const second = node('a');
    expect(first.wire.closedWith?.code).toBe(CLOSE.replaced);
    b.socket.binary(message('a>b', 1));
    expect(second.wire.unwritten).toHaveLength(1);
    // What went through the first one may be lost.
    expect(cancelled).toEqual(['all of a']);
    hello(second.socket, 'a');
    expect(second.wire.closedWith?.code).toBe(CLOSE.protocol);
    expect(cancelled).toEqual(['all of a', 'all of a']);
  });

  it('no hello in time closes with 4408, and garbage never throws', () => {
    const { open, node, clock } = setUp();
    const { wire } = open();
    clock.advance(5000);
    expect(wire.closedWith?.code).toBe(CLOSE.timeout);
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.uint8Array(), fc.string()), { maxLength: 5 }), (messages) => {
        const { socket } = node('a');
        for (const each of messages) typeof each === 'string' ? socket.text(each) : socket.binary(each);
      }),
    );
  });

  it('frames of transfers that are over are dropped, and a flood of them closes with 4429', () => {
    const { node, over, clock } = setUp({ bytesPerSecond: 1000 });
    const [a, b] = [node('a'), node('b')];
    over.add('a>b');
    for (let i = 0; i < 10; i++) {
      a.socket.binary(message('a>b', 900));
      clock.advance(1000);
    }
    expect(b.wire.unwritten).toEqual([]);
    expect(a.wire.closedWith).toBeNull();
    for (let i = 0; i < 3; i++) a.socket.binary(message('a>b', 900));
    expect(a.wire.closedWith?.code).toBe(CLOSE.flood);
    for (let i = 0; i < 2 * DEFAULT_LIMITS.messagesPerSecond + 1; i++) b.socket.binary(message('a>b', 0));
    expect(b.wire.closedWith?.code).toBe(CLOSE.flood);
  });

  it('a transfer whose other node has no bulk socket is cancelled; so are those of a node whose socket closes', () => {
    const { node, cancelled, relay } = setUp();
    const a = node('a');
    a.socket.binary(message('a>b', 1));
    expect(cancelled).toEqual(['a>b']);
    const b = node('b');
    a.socket.binary(message('a>b', 1));
    b.socket.gone();
    expect(cancelled).toEqual(['a>b', 'all of b']);
    expect(relay.waiting).toBe(0);
    relay.left('a');
    expect(a.wire.closedWith?.code).toBe(CLOSE.goingAway);
    expect(relay.size).toBe(0);
  });

  it('who sends to a node that does not read is not read either, until it does', () => {
    const { node } = setUp();
    const [a, b, c] = [node('a'), node('b'), node('c')];
    a.socket.binary(message('a>b', 800));
    expect(a.wire.paused).toBe(false);
    a.socket.binary(message('a>b', 800));
    expect([a.wire.paused, b.wire.paused, c.wire.paused]).toEqual([true, false, false]);
    c.socket.binary(message('c>b', 10));
    expect(c.wire.paused).toBe(true);
    // The other way is open all the while.
    b.socket.binary(message('a>b', 10));
    a.wire.take();
    expect(a.wire.got).toHaveLength(1);
    b.wire.take();
    expect(a.wire.paused).toBe(true);
    b.wire.take();
    expect([a.wire.paused, c.wire.paused]).toEqual([false, false]);
  });

  it.each(['lost', 'replaced'])('who has its bulk socket %s and opens another is not read the sooner for it', (how) => {
    const { node } = setUp();
    const [a, b] = [node('a'), node('b')];
    for (let i = 0; i < 2; i++) a.socket.binary(message('a>b', 800));
    if (how === 'lost') a.socket.gone();
    const again = node('a');
    expect(again.wire.paused).toBe(true);
    expect(a.wire.closedWith?.code).toBe(how === 'lost' ? undefined : CLOSE.replaced);
    b.wire.take();
    expect(again.wire.paused).toBe(true);
    b.wire.take();
    expect(again.wire.paused).toBe(false);
    again.socket.gone();
    expect(node('a').wire.paused).toBe(false);
  });

  it('a node that takes nothing is closed with 4430, and those who sent to it are read again', () => {
    const { node, clock, relay } = setUp();
    const [a, b] = [node('a'), node('b')];
    for (let i = 0; i < 3; i++) a.socket.binary(message('a>b', 800));
    clock.advance(9000);
    b.wire.take();
    clock.advance(9000);
    expect(b.wire.closedWith).toBeNull();
    clock.advance(1000);
    expect(b.wire.closedWith?.code).toBe(CLOSE.slowReader);
    expect(a.wire.paused).toBe(false);
    expect(relay.waiting).toBe(0);
  });

  it('however nodes send, read, come and go, the hub keeps little, and nobody waits for ever', () => {
    const step = fc.record({
      kind: fc.constantFrom('send', 'send', 'send', 'take', 'take', 'leave'),
      from: fc.nat(3),
      to: fc.nat(3),
      bytes: fc.integer({ min: 0, max: 900 }),
    });
    let paused = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (steps) => {
        const { node, relay } = setUp({ bulkTotalBytes: 2500 });
        const names = ['a', 'b', 'c', 'd'];
        const nodes = names.map(node);
        let peak = 0;
        for (const { kind, from, to, bytes } of steps) {
          const one = nodes[from]!;
          if (kind === 'send' && from !== to && !one.wire.paused) {
            one.socket.binary(message(`${names[from]}>${names[to]}`, bytes));
          }
          if (kind === 'take') one.wire.take();
          if (kind === 'leave') {
            one.socket.gone();
            nodes[from] = node(names[from]!);
          }
          paused += nodes.filter(({ wire }) => wire.paused).length;
          peak = Math.max(peak, relay.waiting);
          const all = nodes.reduce((sum, { socket }) => sum + socket.waiting, 0);
          expect(all).toBe(relay.waiting);
          // What is read at once before its sender is stopped, of each sender, however often it opens another socket.
          for (const { socket } of nodes) expect(socket.waiting).toBeLessThanOrEqual(1000 + 4 * 905);
        }
        expect(peak).toBeLessThanOrEqual(2500 + 4 * 905);
        for (const { wire } of nodes) while (wire.unwritten.length > 0) wire.take();
        expect(relay.waiting).toBe(0);
        expect(nodes.some(({ wire }) => wire.paused)).toBe(false);
      }),
      { numRuns: 500 },
    );
    expect(paused).toBeGreaterThan(1000);
  });
});
