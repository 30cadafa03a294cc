import { EngineError } from '../api.ts';
import type { LoadedWeights } from './loaded.ts';

/** Bytes that go to or from the GPU at once. */
const CHUNK_BYTES = 16 * 1024 * 1024;
/** Bytes handed to the queue between two waits for it: bounds the copies that the browser holds. */
const BYTES_IN_FLIGHT = 64 * 1024 * 1024;

/** The weights of a model in the memory of the page. */
export interface StowedWeights {
  readonly bytes: number;
  /**
   * Puts them into new buffers, byte for byte. The copy stays: where this fails it may be tried again.
   * Throws `EngineError` code `out_of_memory` when the GPU has no room.
   */
  restore(): Promise<LoadedWeights>;
}

interface Chunk {
  readonly at: number;
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * Copies weights from the GPU to the host; those on the GPU stay. JavaScript tells nobody how much memory a page may have, so all of it is
 * asked for before the first byte is copied, and the numbers are told when the browser refuses.
 * Throws `EngineError` code `out_of_memory` then.
 */
export async function stowWeights(device: GPUDevice, weights: LoadedWeights): Promise<StowedWeights> {
  const chunks = new Map(reserve(weights));
  const staging = device.createBuffer({
    label: 'stow',
    size: CHUNK_BYTES,
    usage: 0x01 | 0x08 /* MAP_READ | COPY_DST */,
  });
  try {
    for (const [buffer, parts] of chunks) {
      for (const { at, data } of parts) {
        const encoder = device.createCommandEncoder();
        encoder.copyBufferToBuffer(buffer, at, staging, 0, data.byteLength);
        device.queue.submit([encoder.finish()]);
        await staging.mapAsync(1 /* GPUMapMode.READ */, 0, data.byteLength);
        data.set(new Uint8Array(staging.getMappedRange(0, data.byteLength)));
        staging.unmap();
      }
    }
  } finally {
    staging.destroy();
  }
  return { bytes: weights.bytes, restore: () => restore(device, weights, chunks) };
}

/** Room for every buffer of the weights, in chunks. */
function reserve({ buffers, bytes }: LoadedWeights): [GPUBuffer, Chunk[]][] {
  let reserved = 0;
  try {
    return buffers.map((buffer) => {
      const chunks: Chunk[] = [];
      for (let at = 0; at < buffer.size; at += CHUNK_BYTES) {
        const data = new Uint8Array(Math.min(CHUNK_BYTES, buffer.size - at));
        chunks.push({ at, data });
        reserved += data.byteLength;
      }
      return [buffer, chunks];
    });
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new EngineError(
      'out_of_memory',
      `The weights take ${bytes} bytes of the page's memory while it sleeps at level 1, and the browser gave it ${reserved}. Sleep at level 2, which keeps none.`,
      { cause },
    );
  }
}

async function restore(
  device: GPUDevice,
  weights: LoadedWeights,
  chunks: ReadonlyMap<GPUBuffer, readonly Chunk[]>,
): Promise<LoadedWeights> {
  device.pushErrorScope('validation');
  device.pushErrorScope('out-of-memory');
  const moved = new Map<GPUBuffer, GPUBuffer>();
  for (const old of chunks.keys()) {
    const { label, size, usage } = old;
    moved.set(old, device.createBuffer({ label, size, usage }));
  }
  const [memory, invalid] = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
  if (memory ?? invalid) {
    for (const buffer of moved.values()) buffer.destroy();
    throw new EngineError(
      memory ? 'out_of_memory' : 'internal',
      `The GPU has no room any more for the ${weights.bytes} bytes of weights that were put aside (${(memory ?? invalid)?.message}). Close what else uses it.`,
    );
  }
  let unflushed = 0;
  for (const [old, parts] of chunks) {
    const buffer = moved.get(old)!;
    for (const { at, data } of parts) {
      device.queue.writeBuffer(buffer, at, data);
      unflushed += data.byteLength;
      if (unflushed < BYTES_IN_FLIGHT) continue;
      unflushed = 0;
      device.queue.submit([]);
      await device.queue.onSubmittedWorkDone();
    }
  }
  return weights.over(moved);
}
