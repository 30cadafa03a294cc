import { expect, it } from 'vitest';
import { batches, frameBatches } from '../../../src/node/batches.ts';

it('splits what is more than a message holds, in order', () => {
  const items = Array.from({ length: 9000 }, (_, i) => i);
  const parts = [...batches(items)];
  expect(parts.map((part) => part.length)).toEqual([4096, 4096, 808]);
  expect(parts.flat()).toEqual(items);
});

it('keeps messages of embeddings short, and those of tokens whole', () => {
  const tokens = Array.from({ length: 4096 }, () => ({}));
  expect([...frameBatches(tokens)]).toHaveLength(1);
  const embeddings = Array.from({ length: 500 }, (_, i) => ({ i, embedding: 'A'.repeat(20_000) }));
  const parts = [...frameBatches(embeddings)];
  expect(parts.flat()).toEqual(embeddings);
  expect(Math.max(...parts.map((part) => part.length))).toBe(52);
  // One that is longer than that goes alone.
  expect([...frameBatches([{ embedding: 'A'.repeat(1 << 21) }, {}])].map((part) => part.length)).toEqual([1, 1]);
});
