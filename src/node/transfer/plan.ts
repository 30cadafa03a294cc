import { transportsOf } from '../../config/kv-transfer.ts';
import { OptionError } from '../../config/option.ts';
import { pageOptions } from '../../config/options.ts';
import type { PageOptions } from '../../config/table.ts';
import type { Role } from '../../protocol/messages.ts';
import type { TransportName } from '../../protocol/transfer.ts';

/** A node's part in disaggregated serving, and the transports it may use, best first. */
export interface TransferPlan {
  readonly role: Role;
  readonly transports: readonly TransportName[];
}

/** Reads the plan from a page's options. Throws `OptionError` where they contradict each other. */
export function transferPlan(options: PageOptions): TransferPlan {
  const role = options['disaggregation-mode'];
  if (role === 'agg') return { role, transports: [] };
  if (!options['enable-prefix-caching']) {
    throw new OptionError(
      `disaggregation-mode ${role} needs the prefix cache, through which blocks come and go. Leave out no-enable-prefix-caching.`,
    );
  }
  return { role, transports: transportsOf(options['kv-transfer-config']) };
}

/** Why this node could not have a role, with a page's query and what its hub offers; null where it could. */
export type RoleRefusals = Readonly<Record<Role, string | null>>;

export function roleRefusals(query: string, offered: Readonly<Record<string, string>>): RoleRefusals {
  const refusal = (role: Role): string | null => {
    const asked = new URLSearchParams(query);
    asked.set('disaggregation-mode', role);
    try {
      transferPlan(pageOptions(asked, offered));
      return null;
    } catch (error) {
      if (error instanceof OptionError) return error.message;
      throw error;
    }
  };
  return { agg: refusal('agg'), prefill: refusal('prefill'), decode: refusal('decode') };
}
