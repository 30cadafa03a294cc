import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { FrameQueue } from '../../../src/hub/frame-queue.ts';

async function readAll<T>(queue: FrameQueue<T>): Promise<T[]> {
  const read: T[] = [];
  for await (const item of queue) read.push(item);
  return read;
}

it('gives everything in order, whether the reader or the writer is ahead', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 40 }), async (pauses) => {
      const queue = new FrameQueue<number>();
      const read = readAll(queue);
      for (const [i, pause] of pauses.entries()) {
        queue.push(i);
        if (pause) await Promise.resolve();
      }
      queue.end();
      expect(await read).toEqual(pauses.map((_, i) => i));
    }),
  );
});

it('an error comes after what was put in before it; what comes after the end is dropped', async () => {
  const queue = new FrameQueue<number>();
  queue.push(1);
  queue.fail(new Error('lost'));
  queue.push(2);
  queue.fail(new Error('again'));
  const read: number[] = [];
  await expect(async () => {
    for await (const item of queue) read.push(item);
  }).rejects.toThrow('lost');
  expect(read).toEqual([1]);
});
