import type { AdapterCard } from '../protocol/messages.ts';

/** The adapter as browsers name it: the description where there is one, else vendor and architecture. */
export function adapterName({ vendor, architecture, device, description }: AdapterCard): string {
  return description || [vendor, architecture, device].filter((part) => part !== '').join(' ') || 'unnamed adapter';
}
