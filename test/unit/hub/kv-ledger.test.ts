import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { KvLedger } from '../../../src/hub/kv-ledger.ts';
import type { KvEvent } from '../../../src/protocol/kv-events.ts';

const events = (...ids: number[]): KvEvent[] => ids.map((eventId) => ({ type: 'cleared', eventId }));

it('K6, K8: ids count from 1 without a gap; at a gap a snapshot is asked for once and nothing is taken until it comes', () => {
  const ledger = new KvLedger();
  expect(ledger.append(events(1, 2))).toBe('in order');
  expect(ledger.append(events(3, 5, 6))).toBe('gap');
  expect(ledger.append(events(7))).toBe('waiting for a snapshot');
  expect(ledger).toMatchObject({ lastEventId: 3, gaps: 1 });
  ledger.replace({ lastEventId: 6, blocks: [] });
  expect(ledger.append(events(5, 6, 7))).toBe('in order');
  expect(ledger.lastEventId).toBe(7);
});

it('K8: a connection that begins later than event 1 has a gap', () => {
  expect(new KvLedger().append(events(41))).toBe('gap');
});

it('K8: any way of losing messages ends, after one snapshot for each gap, at the last id', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }), (arrives) => {
      const ledger = new KvLedger();
      let asked = 0;
      const last = arrives.length + 1;
      for (let id = 1; id <= last; id++) {
        const came = id === last || arrives[id - 1];
        if (!came || ledger.append(events(id)) !== 'gap') continue;
        asked += 1;
        ledger.replace({ lastEventId: id, blocks: [] });
      }
      expect(ledger.lastEventId).toBe(last);
      expect(ledger.gaps).toBe(asked);
    }),
  );
});
