import { describe, expect, test } from 'vitest';
import { roleRefusals } from '../../../../src/node/transfer/plan.ts';

const producer = JSON.stringify({ kv_connector: 'QuireConnector', kv_role: 'kv_producer' });

describe('roles that a node could have', () => {
  test('are all, whatever role its address asks for now', () => {
    expect(roleRefusals('?allow-software-adapter&disaggregation-mode=decode', {})).toEqual({
      ...{ agg: null, prefill: null, decode: null },
    });
  });

  test('are those of --kv-transfer-config, with its reason for the others', () => {
    const refusals = roleRefusals('', { 'kv-transfer-config': producer });
    expect(refusals.prefill).toBeNull();
    expect(refusals.agg).toContain('kv_role kv_producer is for nodes of disaggregation-mode prefill, not agg');
    expect(refusals.decode).toContain('not decode');
  });

  test('need the prefix cache where blocks come and go', () => {
    const refusals = roleRefusals('?no-enable-prefix-caching', {});
    expect(refusals.agg).toBeNull();
    for (const role of ['prefill', 'decode'] as const) expect(refusals[role]).toContain('needs the prefix cache');
  });
});
