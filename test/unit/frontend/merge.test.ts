import { expect, test } from 'vitest';
import { merge } from '../../../src/frontend/merge.ts';

async function* count(name: string, to: number, returned: string[] = []): AsyncGenerator<string> {
  try {
    for (let i = 0; i < to; i++) yield `${name}${i}`;
  } finally {
    returned.push(name);
  }
}
/** Never has an item; ends only when told to return. */
function silent(returned: string[]): AsyncIterable<string> {
  return {
    [Symbol.asyncIterator]: () => ({
      next: () => new Promise<never>(() => {}),
      return: async () => {
        returned.push('silent');
        return { done: true, value: undefined };
      },
    }),
  };
}

test('all items, each source in its own order, no source held up by one that is always ready', async () => {
  const items: string[] = [];
  for await (const item of merge([count('a', 100), count('b', 100)])) items.push(item);
  expect(items.filter((item) => item.startsWith('a'))).toEqual(Array.from({ length: 100 }, (_, i) => `a${i}`));
  expect(items.filter((item) => item.startsWith('b'))).toEqual(Array.from({ length: 100 }, (_, i) => `b${i}`));
  expect(items.slice(0, 20).filter((item) => item.startsWith('b')).length).toBeGreaterThan(5);
});

test('leaving early tells all to return, also one that hangs', async () => {
  const returned: string[] = [];
  for await (const item of merge([silent(returned), count('a', 100, returned)])) if (item === 'a3') break;
  await Promise.resolve();
  expect(returned.sort()).toEqual(['a', 'silent']);
});

test('an error ends all', async () => {
  const returned: string[] = [];
  // biome-ignore lint/correctness/useYield: it fails before its first item
  const failing = (async function* (): AsyncGenerator<string> {
    throw new Error('broken');
  })();
  const read = async () => {
    for await (const _ of merge([silent(returned), failing]));
  };
  await expect(read()).rejects.toThrow('broken');
  expect(returned).toEqual(['silent']);
});
