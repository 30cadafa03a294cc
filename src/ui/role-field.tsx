import type { Role } from '../protocol/messages.ts';
import type { Controller } from './controller.ts';
import { node, roleAsked } from './state.ts';

const ROLES: readonly { readonly role: Role; readonly words: string }[] = [
  { role: 'agg', words: 'agg: prefill and decode' },
  { role: 'prefill', words: 'prefill: prompts for decode nodes' },
  { role: 'decode', words: 'decode: answers' },
];

/** What this node does in its cluster; another choice makes it leave and join anew. */
export function RoleField({ controller }: { controller: Controller }) {
  const { card, stage, roleRefusals } = node.value;
  const shown = roleAsked.value ?? card?.role ?? 'agg';
  const lends = stage !== 'idle' && stage !== 'refused' && stage !== 'gone';
  const refused = ROLES.map(({ role }) => roleRefusals?.[role] ?? null).filter((reason) => reason !== null);
  return (
    <div class="role-field">
      <label for="role">Role</label>
      <select
        id="role"
        data-testid="role"
        data-state={shown}
        value={shown}
        disabled={stage === 'draining'}
        aria-describedby="role-hint"
        onChange={({ currentTarget }) => {
          const chosen = ROLES.find(({ role }) => role === currentTarget.value);
          if (chosen) void controller.setRole(chosen.role);
        }}
      >
        {ROLES.map(({ role, words }) => (
          <option key={role} value={role} disabled={typeof roleRefusals?.[role] === 'string'}>
            {words}
          </option>
        ))}
      </select>
      <p class="quiet" id="role-hint" data-testid="role-hint">
        {refused.length > 0
          ? [...new Set(refused)].join(' ')
          : lends
            ? 'Another role: the node finishes its answers, leaves and joins anew.'
            : 'Another role counts when this page joins again.'}
      </p>
    </div>
  );
}
