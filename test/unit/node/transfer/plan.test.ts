import { expect, test } from 'vitest';
import { OptionError } from '../../../../src/config/option.ts';
import { pageOptions } from '../../../../src/config/options.ts';
import { transferPlan } from '../../../../src/node/transfer/plan.ts';

const planOf = (query: string, offered: Record<string, string> = {}) =>
  transferPlan(pageOptions(new URLSearchParams(query), offered));

const config = (transports: string[], kv_role = 'kv_both') =>
  JSON.stringify({ kv_connector: 'QuireConnector', kv_role, kv_connector_extra_config: { transports } });

test('a node is agg, and has no transports, unless its address or its hub says otherwise', () => {
  expect(planOf('')).toEqual({ role: 'agg', transports: [] });
  expect(planOf('disaggregation-mode=prefill')).toEqual({
    role: 'prefill',
    transports: ['local', 'relay', 'webrtc'],
  });
  expect(planOf('', { 'disaggregation-mode': 'decode' }).role).toBe('decode');
  expect(planOf('disaggregation-mode=agg', { 'disaggregation-mode': 'decode' }).role).toBe('agg');
});

test('--kv-transfer-config says by which transports, in which order', () => {
  const given = { 'kv-transfer-config': config(['webrtc', 'local']) };
  expect(planOf('disaggregation-mode=decode', given).transports).toEqual(['webrtc', 'local']);
  expect(planOf('disaggregation-mode=agg', given).transports).toEqual([]);
});

test('a role that the configuration, or the missing prefix cache, rules out is refused in one line', () => {
  const producer = { 'kv-transfer-config': config(['relay'], 'kv_producer') };
  expect(planOf('disaggregation-mode=prefill', producer).role).toBe('prefill');
  expect(() => planOf('disaggregation-mode=decode', producer)).toThrow(OptionError);
  expect(() => planOf('disaggregation-mode=decode&no-enable-prefix-caching')).toThrow('needs the prefix cache');
});
