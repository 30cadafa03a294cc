/** Bytes of a step on their way back to the host. */
export interface Readback {
  /** Resolves when the GPU is done with everything submitted before; one call only. */
  read(): Promise<Uint32Array>;
}

interface Part {
  readonly source: GPUBuffer;
  readonly words: number;
}

/**
 * Ring of staging buffers, so that several steps can be in flight and nothing is allocated in the steady state.
 * `depth` bounds the steps in flight; one more is an error of the caller.
 */
export class ReadbackRing {
  private readonly all: readonly GPUBuffer[];
  private readonly free: GPUBuffer[];

  constructor(device: GPUDevice, depth: number, words: number) {
    this.all = Array.from({ length: depth }, () =>
      device.createBuffer({
        label: 'readback',
        size: Math.max(16, words * 4),
        usage: 0x01 | 0x08 /* MAP_READ | COPY_DST */,
      }),
    );
    this.free = [...this.all];
  }

  /** Records the copies of `parts`, one after the other. Call `read` after the encoder's commands were submitted. */
  record(encoder: GPUCommandEncoder, parts: readonly Part[]): Readback {
    const staging = this.free.pop();
    if (!staging) throw new Error('more steps in flight than the readback ring holds');
    let at = 0;
    for (const { source, words } of parts) {
      encoder.copyBufferToBuffer(source, 0, staging, at * 4, words * 4);
      at += words;
    }
    return {
      read: async () => {
        await staging.mapAsync(1 /* GPUMapMode.READ */, 0, at * 4);
        const copy = new Uint32Array(staging.getMappedRange(0, at * 4).slice(0));
        staging.unmap();
        this.free.push(staging);
        return copy;
      },
    };
  }

  /** What is on its way back rejects. */
  destroy(): void {
    for (const buffer of this.all) buffer.destroy();
  }
}

/** Copies a whole buffer to the host; for checks and tests, not for steps. */
export async function readBuffer(device: GPUDevice, source: GPUBuffer): Promise<ArrayBuffer> {
  const staging = device.createBuffer({ size: source.size, usage: 0x01 | 0x08 /* MAP_READ | COPY_DST */ });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(source, 0, staging, 0, source.size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(1 /* GPUMapMode.READ */);
  const copy = staging.getMappedRange().slice(0);
  staging.destroy();
  return copy;
}
