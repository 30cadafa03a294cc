import { expect, test } from 'vitest';
import { Arrivals } from '../../../../src/node/transfer/arrivals.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const of = (transfer: string, peer = 'd') => ({ transfer, peer });
const never = new AbortController().signal;

function channel() {
  const made = {
    closed: false,
    close: () => {
      made.closed = true;
    },
  };
  return made;
}

test('a channel and who asks for it find each other, whichever comes first', async () => {
  const arrivals = new Arrivals<ReturnType<typeof channel>>(new FakeClock());
  const [first, second] = [channel(), channel()];
  arrivals.put('a', 'd', first);
  expect(await arrivals.take(of('a'), never)).toBe(first);
  const asked = arrivals.take(of('b'), never);
  arrivals.put('b', 'd', second);
  expect(await asked).toBe(second);
});

test('a channel that nobody asks for in 15 seconds is closed', () => {
  const clock = new FakeClock();
  const arrivals = new Arrivals<ReturnType<typeof channel>>(clock);
  const lonely = channel();
  arrivals.put('a', 'd', lonely);
  clock.advance(14_999);
  expect(lonely.closed).toBe(false);
  clock.advance(1);
  expect(lonely.closed).toBe(true);
});

test('no more than 64 wait, a second one of a transfer is closed, and so is one from another node', async () => {
  const arrivals = new Arrivals<ReturnType<typeof channel>>(new FakeClock());
  const many = Array.from({ length: 65 }, channel);
  for (const [i, each] of many.entries()) arrivals.put(`t${i}`, 'd', each);
  expect(many.filter(({ closed }) => closed)).toEqual([many[64]]);
  const twin = channel();
  arrivals.put('t0', 'd', twin);
  expect(twin.closed).toBe(true);
  const asked = arrivals.take(of('t1', 'somebody'), AbortSignal.abort(new Error('gone')));
  await expect(asked).rejects.toThrow('gone');
  expect(many[1]?.closed).toBe(true);
  arrivals.clear();
  expect(many.every(({ closed }) => closed)).toBe(true);
});

test('one that comes when nobody waits any more is closed in its time', async () => {
  const clock = new FakeClock();
  const arrivals = new Arrivals<ReturnType<typeof channel>>(clock);
  const abort = new AbortController();
  const asked = arrivals.take(of('a'), abort.signal);
  abort.abort(new Error('too late'));
  await expect(asked).rejects.toThrow('too late');
  const late = channel();
  arrivals.put('a', 'd', late);
  clock.advance(15_000);
  expect(late.closed).toBe(true);
});
