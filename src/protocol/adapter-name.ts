import type { AdapterCard } from './messages.ts';

/** An adapter as browsers name it: its description where there is one, else vendor, architecture and device. */
export function adapterName(adapter: Pick<AdapterCard, 'vendor' | 'architecture' | 'device' | 'description'>): string {
  const { vendor, architecture, device, description } = adapter;
  return description || [vendor, architecture, device].filter(Boolean).join(' ') || 'an adapter without a name';
}

/** Names under which software adapters show themselves (SwiftShader, llvmpipe and lavapipe, WARP). */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render|software/i;

/** Whether an adapter computes on the CPU; `info` is a `GPUAdapterInfo`. Not every browser says so with `isFallbackAdapter`. */
export function isSoftwareAdapter(
  info: Pick<AdapterCard, 'vendor' | 'architecture' | 'device' | 'description'> & {
    readonly isFallbackAdapter?: boolean;
  },
): boolean {
  const { vendor, architecture, device, description } = info;
  return SOFTWARE.test(`${vendor} ${architecture} ${device} ${description}`) || info.isFallbackAdapter === true;
}
