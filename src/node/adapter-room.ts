import { isSoftwareAdapter } from '../protocol/adapter-name.ts';
import type { AdapterRoom } from '../protocol/messages.ts';

/** What the adapter that an engine would open allows; null where there is none. Opens no device. */
export async function adapterRoom(gpu: GPU | undefined): Promise<AdapterRoom | null> {
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return null;
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  return { maxBufferSize, maxStorageBufferBindingSize, software: isSoftwareAdapter(adapter.info) };
}
