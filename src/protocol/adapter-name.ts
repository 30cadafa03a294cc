import type { AdapterCard } from './messages.ts';

/** An adapter as browsers name it: its description where there is one, else vendor, architecture and device. */
export function adapterName(adapter: Pick<AdapterCard, 'vendor' | 'architecture' | 'device' | 'description'>): string {
  const { vendor, architecture, device, description } = adapter;
  return description || [vendor, architecture, device].filter(Boolean).join(' ') || 'an adapter without a name';
}
