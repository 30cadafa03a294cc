import { EngineError } from '../api.ts';

/** Storage buffer that can be filled from the host and copied out. */
const STORAGE_USAGE = 0x80 | 0x08 | 0x04; // STORAGE | COPY_DST | COPY_SRC, as numbers: the global is missing in Node

/**
 * Makes storage buffers of the given sizes (bytes, rounded up to 16) all at once, under error scopes: WebGPU reports
 * a lack of memory there and nowhere else. Throws `EngineError` code `out_of_memory` with the sum and frees what it made.
 */
export async function allocate<K extends string>(
  device: GPUDevice,
  purpose: string,
  sizes: Readonly<Record<K, number>>,
): Promise<Record<K, GPUBuffer>> {
  const limit = Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize);
  const entries = Object.entries(sizes) as [K, number][];
  const total = entries.reduce((sum, [, size]) => sum + size, 0);
  const tooLarge = entries.find(([, size]) => size > limit);
  if (tooLarge) {
    throw new EngineError(
      'out_of_memory',
      `${purpose}: buffer ${tooLarge[0]} needs ${mib(tooLarge[1])}, but this adapter binds at most ${mib(limit)}. Lower --max-model-len, --max-num-seqs or --num-gpu-blocks-override.`,
    );
  }
  device.pushErrorScope('out-of-memory');
  device.pushErrorScope('validation');
  const made = {} as Record<K, GPUBuffer>;
  for (const [label, size] of entries) {
    made[label] = device.createBuffer({ label, size: Math.max(16, Math.ceil(size / 16) * 16), usage: STORAGE_USAGE });
  }
  const invalid = await device.popErrorScope();
  const exhausted = await device.popErrorScope();
  const error = exhausted ?? invalid;
  if (error) {
    for (const [label] of entries) made[label].destroy();
    throw new EngineError(
      'out_of_memory',
      `${purpose}: the GPU gave no ${mib(total)} (${error.message}). Close other GPU-heavy tabs, or lower --gpu-memory-utilization or --max-num-seqs.`,
    );
  }
  return made;
}

export function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(2)} MiB`;
}
