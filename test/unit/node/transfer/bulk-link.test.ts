import { expect, test } from 'vitest';
import { BulkLink, type BulkSocketListener } from '../../../../src/node/transfer/bulk-link.ts';
import { CLOSE } from '../../../../src/protocol/close-codes.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

function setUp(random = 1) {
  const clock = new FakeClock();
  const sockets: {
    listener: BulkSocketListener;
    bufferedAmount: number;
    sent: unknown[];
    closedWith: number | null;
  }[] = [];
  const heard: string[] = [];
  const link = new BulkLink({
    clock,
    random: () => random,
    connect: (listener) => {
      const socket = {
        ...{ listener, bufferedAmount: 0, sent: [] as unknown[], closedWith: null as number | null },
        send: (message: unknown) => socket.sent.push(message),
        close: (code: number) => {
          socket.closedWith = code;
        },
      };
      sockets.push(socket);
      return socket;
    },
    listener: {
      opened: () => heard.push('opened'),
      message: (bytes) => heard.push(`message ${bytes.length}`),
      drained: () => heard.push('drained'),
      lost: (reason) => heard.push(`lost ${reason}`),
    },
  });
  return { clock, sockets, heard, link, last: () => sockets.at(-1)! };
}

test('X12: a lost socket is opened again after growing, jittered pauses, as the same node', () => {
  const { clock, sockets, link, last, heard } = setUp();
  link.open('node-1', 'secret');
  last().listener.opened();
  for (const pause of [250, 500, 1000, 2000, 4000, 5000, 5000]) {
    last().listener.closed(1006, 'cut');
    const before = sockets.length;
    clock.advance(pause - 1);
    expect(sockets).toHaveLength(before);
    clock.advance(1);
    expect(sockets).toHaveLength(before + 1);
  }
  last().listener.opened();
  expect(last().sent).toEqual(['{"type":"bulk","node":"node-1","token":"secret"}']);
  expect(heard).toEqual(['opened', 'lost cut', 'opened']);
});

test('X12: pauses are half as long at least', () => {
  const { clock, sockets, link, last } = setUp(0);
  link.open('node-1', 'secret');
  last().listener.closed(1006, '');
  clock.advance(124);
  expect(sockets).toHaveLength(1);
  clock.advance(1);
  expect(sockets).toHaveLength(2);
});

test.each([CLOSE.ticket, CLOSE.protocol, CLOSE.replaced, CLOSE.flood])(
  '%d is the end, until the next welcome',
  (code) => {
    const { clock, sockets, link, last } = setUp();
    link.open('node-1', 'secret');
    last().listener.opened();
    last().listener.closed(code, '');
    clock.advance(60_000);
    expect(sockets).toHaveLength(1);
    link.open('node-2', 'other');
    last().listener.opened();
    expect(last().sent).toEqual(['{"type":"bulk","node":"node-2","token":"other"}']);
  },
);

test('a new welcome closes the socket of the one before, whose last words are not heard', () => {
  const { sockets, link, heard, clock } = setUp();
  link.open('node-1', 'a');
  sockets[0]!.listener.opened();
  link.open('node-1', 'b');
  expect(sockets[0]!.closedWith).toBe(1000);
  sockets[0]!.listener.message(new Uint8Array(3));
  sockets[0]!.listener.closed(1000, '');
  clock.advance(60_000);
  expect(sockets).toHaveLength(2);
  expect(heard).toEqual(['opened', 'lost the node closed it']);
});

test('X12: not writable from 4 MiB unsent on, writable again at 1 MiB', () => {
  const { clock, link, last, heard } = setUp();
  link.open('node-1', 'secret');
  expect(link.writable).toBe(false);
  last().listener.opened();
  last().bufferedAmount = (4 << 20) - 1;
  expect(link.writable).toBe(true);
  last().bufferedAmount = 4 << 20;
  expect(link.writable).toBe(false);
  last().bufferedAmount = (1 << 20) + 1;
  clock.advance(100);
  expect(link.writable).toBe(false);
  last().bufferedAmount = 1 << 20;
  clock.advance(5);
  expect(link.writable).toBe(true);
  expect(heard).toEqual(['opened', 'drained']);
});

test('closed, it neither opens again nor sends', () => {
  const { clock, sockets, link, last } = setUp();
  link.open('node-1', 'secret');
  last().listener.opened();
  link.close();
  link.send(new Uint8Array(1));
  clock.advance(60_000);
  expect(sockets).toHaveLength(1);
  expect(last().sent).toHaveLength(1);
});
