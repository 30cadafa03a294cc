import * as z from 'zod';
import type { Role } from '../protocol/messages.ts';
import { TransportName } from '../protocol/transfer.ts';

/** In the order in which nodes try them unless told otherwise. */
const TRANSPORTS = TransportName.options;

/** vLLM's `--kv-transfer-config`: the parts of it that mean something here, by vLLM's names. */
export const KvTransferConfig = z.strictObject({
  kv_connector: z.literal('QuireConnector', { error: 'expected "QuireConnector", the connector that browsers have' }),
  /** What a node may do; its `--disaggregation-mode` must fit. */
  kv_role: z.enum(['kv_producer', 'kv_consumer', 'kv_both']).default('kv_both'),
  kv_connector_extra_config: z
    .strictObject({
      transports: z
        .array(TransportName)
        .min(1)
        .refine((names) => new Set(names).size === names.length, 'a transport is named twice')
        .default([...TRANSPORTS]),
    })
    .default({ transports: [...TRANSPORTS] }),
});
export type KvTransferConfig = z.infer<typeof KvTransferConfig>;

/** Ways that nodes may use, in the order to try them. */
export function transportsOf(config: KvTransferConfig | null): readonly TransportName[] {
  return config === null ? TRANSPORTS : config.kv_connector_extra_config.transports;
}

/** Why a node of this role cannot have this configuration, in one sentence; null when it can. */
export function roleClash(config: KvTransferConfig | null, role: Role): string | null {
  if (config === null || config.kv_role === 'kv_both') return null;
  const needed = config.kv_role === 'kv_producer' ? 'prefill' : 'decode';
  if (role === needed) return null;
  return `kv-transfer-config: kv_role ${config.kv_role} is for nodes of disaggregation-mode ${needed}, not ${role}. Use kv_both, which suits every role, or change the mode.`;
}
