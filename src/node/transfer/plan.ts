import { OptionError } from '../../config/option.ts';
import type { PageOptions } from '../../config/table.ts';
import type { Role } from '../../protocol/messages.ts';
import { TransportName } from '../../protocol/transfer.ts';

/** A node's part in disaggregated serving, and the transports it may use, best first. */
export interface TransferPlan {
  readonly role: Role;
  readonly transports: readonly TransportName[];
}

const ROLE_OF = { kv_producer: 'prefill', kv_consumer: 'decode' } as const;

/** Reads the plan from a page's options. Throws `OptionError` where they contradict each other. */
export function transferPlan(options: PageOptions): TransferPlan {
  const role = options['disaggregation-mode'];
  if (role === 'agg') return { role, transports: [] };
  if (!options['enable-prefix-caching']) {
    throw new OptionError(
      `--disaggregation-mode ${role} needs the prefix cache, through which blocks go from node to node. Leave out --no-enable-prefix-caching.`,
    );
  }
  const config = options['kv-transfer-config'];
  const kvRole = config?.kv_role ?? 'kv_both';
  if (kvRole !== 'kv_both' && ROLE_OF[kvRole] !== role) {
    throw new OptionError(
      `--kv-transfer-config: kv_role ${kvRole} is that of a ${ROLE_OF[kvRole]} node, and this one is a ${role} node (--disaggregation-mode). Use kv_both, or give each node its own.`,
    );
  }
  return { role, transports: config?.kv_connector_extra_config?.transports ?? TransportName.options };
}
