import { expect, it } from 'vitest';
import { BatchLog } from '../../../../src/hub/kv-publisher/batch-log.ts';

const bytes = (length: number) => new Uint8Array(length);
const seqs = (log: BatchLog, topic: string, start = 0n) => log.since(topic, start).map(({ seq }) => seq);

it('numbers each topic from 0, and gives what is asked for and no other', () => {
  const log = new BatchLog(10, 1000);
  for (const topic of ['a', 'b', 'a', 'a']) log.add(topic, bytes(1));
  expect(log.topics).toHaveLength(2);
  expect(seqs(log, 'a')).toEqual([0, 1, 2]);
  expect(seqs(log, 'a', 2n)).toEqual([2]);
  expect(seqs(log, 'b')).toEqual([0]);
  expect(seqs(log, 'a', 2n ** 64n - 1n)).toEqual([]);
  expect(seqs(log, 'c')).toEqual([]);
});

it('keeps so many steps and so many bytes, the newest, while the numbers go on', () => {
  const log = new BatchLog(3, 1000);
  for (let i = 0; i < 100; i++) log.add(i % 2 === 0 ? 'a' : 'b', bytes(1));
  expect(seqs(log, 'a')).toEqual([49]);
  expect(seqs(log, 'b')).toEqual([48, 49]);
  const heavy = new BatchLog(100, 1000);
  for (let i = 0; i < 10; i++) heavy.add('a', bytes(300));
  expect(seqs(heavy, 'a')).toEqual([7, 8, 9]);
});
