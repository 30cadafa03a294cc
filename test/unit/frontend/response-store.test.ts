import { expect, test } from 'vitest';
import { ResponseStore } from '../../../src/frontend/responses/response-store.ts';

test('kept responses make room by count and by bytes, those first that nobody asked for longest, and belong to a key', () => {
  const stored = (id: string, text = '') => ({
    response: { id, status: 'completed' as const, output: [] },
    items: [{ type: 'message' as const, role: 'user' as const, content: text }],
  });
  const store = new ResponseStore({ most: 3, mostBytes: 4000 });
  for (const id of ['a', 'b', 'c']) store.put('key', stored(id));
  expect(store.get('a', 'other')).toBeNull();
  expect(store.delete('a', null)).toBe(false);
  expect(store.get('a', 'key')).not.toBeNull();
  store.put('key', stored('d'));
  const there = () => ['a', 'b', 'c', 'd', 'e', 'f'].filter((id) => store.get(id, 'key') !== null).join('');
  expect(there()).toBe('acd');
  store.put('key', stored('e', 'x'.repeat(1500)));
  expect(there()).toBe('cde');
  store.put('key', stored('f', 'x'.repeat(1500)));
  expect(there()).toBe('f');
  // Deleting frees its bytes.
  expect(store.delete('f', 'key')).toBe(true);
  store.put('key', stored('a', 'x'.repeat(1500)));
  store.put('key', stored('b'));
  expect(there()).toBe('ab');
  // Larger than everything may be: nothing else goes for it.
  store.put('key', stored('c', 'x'.repeat(3000)));
  expect(there()).toBe('ab');
});
