import { expect, it } from 'vitest';
import { KvLedger } from '../../../../src/hub/router/kv-ledger.ts';

it('K6, K8: ids count from 1 without a gap; known ones are skipped; after a gap nothing counts until a snapshot', () => {
  const ledger = new KvLedger();
  expect([1, 2, 2, 1, 3, 5, 6].map((id) => ledger.next(id))).toEqual([
    'next',
    'next',
    'known',
    'known',
    'next',
    'gap',
    'waiting',
  ]);
  expect(ledger).toMatchObject({ lastEventId: 3, gaps: 1 });
  ledger.replaced(6);
  expect([5, 6, 7].map((id) => ledger.next(id))).toEqual(['known', 'known', 'next']);
});

it('K8: a connection that begins later than event 1 has a gap', () => {
  expect(new KvLedger().next(41)).toBe('gap');
});
