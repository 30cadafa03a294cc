import { Counter, Gauge, type Registry } from 'prom-client';
import type { TransferCounters } from './disaggregation.ts';

/** Series of KV transfers. active: how many there are now. */
export function transferMetrics(registry: Registry, active: () => number): TransferCounters {
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
    new Counter({ name: `quire_${name}_total`, help, labelNames, registers });
  const transfers = counter('kv_transfers', 'Transfers of KV blocks that ended.', ['model', 'transport', 'outcome']);
  const blocks = counter('kv_transfer_blocks', 'KV blocks taken from prefill nodes.', ['model', 'transport']);
  const bytes = counter('kv_transfer_bytes', 'Bytes of those blocks.', ['model', 'transport']);
  const tokens = counter('remote_prefill_tokens', 'Prompt tokens that prefill nodes computed for others.', ['model']);
  const fallbacks = counter('kv_transfer_fallbacks', 'Transfers after which the decode node computed the prompt.', [
    'model',
    'reason',
  ]);
  new Gauge({
    name: 'quire_kv_transfers_active',
    help: 'Transfers of KV blocks that are going on.',
    registers,
    collect() {
      this.set(active());
    },
  });
  return {
    ended(model, transport, outcome) {
      transfers.inc({ model, transport: transport ?? 'none', outcome });
      if (outcome !== 'done' && outcome !== 'cancelled') fallbacks.inc({ model, reason: outcome });
    },
    done(model, outcome) {
      const { transport } = outcome;
      blocks.inc({ model, transport }, outcome.blocks);
      bytes.inc({ model, transport }, outcome.bytes);
      tokens.inc({ model }, outcome.computedTokens);
    },
  };
}
