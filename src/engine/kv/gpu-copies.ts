import { type KvSection, MAX_PAYLOAD_BYTES, sectionBytes } from '../../protocol/transfer.ts';
import { EngineError } from '../api.ts';
import { allocate } from '../gpu/allocate.ts';
import type { PreparedCall } from '../gpu/kernel.ts';
import { encodeCalls, type Pipelines } from '../gpu/pipelines.ts';
import { ReadbackRing } from '../gpu/readback.ts';
import { gatherBlocks, JOB_HEAD, scatterBlocks } from '../kernels/copy-blocks.ts';
import type { KvCopies } from './copies.ts';
import { type KvLayer, type KvShape, layerBlockBytes } from './pool.ts';

/** Reads on their way back at once: each waits for the steps before it, so that one alone would leave the way empty. */
const READS_IN_FLIGHT = 4;
/** Blocks of one section; what one dispatch can count in its y. */
const MAX_BLOCKS = 65_535;

/** Bytes of GPU memory that the copies of a pool of `blocks` blocks take: staging, and what is read back. */
export function copyBytes(shape: KvShape, blocks: number): number {
  return largest(shape, blocks) * (1 + READS_IN_FLIGHT);
}

function largest(shape: KvShape, blocks: number): number {
  return Math.min(MAX_PAYLOAD_BYTES, layerBlockBytes(shape) * 2 * shape.spec.layers.length * blocks);
}

/**
 * Copies between the pool and the host over one contiguous staging buffer. All go through the device's queue in the
 * order of the calls, so one buffer serves them all, and steps need no further order among them.
 */
export class GpuKvCopies implements KvCopies {
  private readonly ring: ReadbackRing;
  private inFlight = 0;
  private readonly waiting: (() => void)[] = [];
  private destroyed = false;

  private constructor(
    private readonly device: GPUDevice,
    private readonly blockBytes: number,
    readonly maxBytes: number,
    readonly maxBlocks: number,
    private readonly buffers: { readonly job: GPUBuffer; readonly staging: GPUBuffer },
    private readonly gather: readonly PreparedCall[],
    private readonly scatter: readonly PreparedCall[],
  ) {
    this.ring = new ReadbackRing(device, READS_IN_FLIGHT, maxBytes / 4);
  }

  /** Throws `EngineError` code `out_of_memory`; rejects when a shader does not compile. */
  static async create(
    device: GPUDevice,
    pipelines: Pipelines,
    shape: KvShape,
    pool: readonly KvLayer[],
    blocks: number,
  ): Promise<GpuKvCopies> {
    const maxBytes = largest(shape, blocks);
    const blockBytes = layerBlockBytes(shape);
    const maxBlocks = Math.min(MAX_BLOCKS, blocks, Math.floor(maxBytes / (2 * blockBytes)));
    const sizes = { job: 4 * (JOB_HEAD + maxBlocks), staging: maxBytes };
    const buffers = await allocate(device, 'KV transfer', sizes);
    const calls = (make: typeof gatherBlocks) =>
      pipelines.prepare(
        pool.map(({ k, v }, layer) =>
          make({ ...buffers, label: `layer ${layer}`, layer, blockBytes, blocks: maxBlocks, kPool: k, vPool: v }),
        ),
      );
    const [gather, scatter] = await Promise.all([calls(gatherBlocks), calls(scatterBlocks)]);
    return new GpuKvCopies(device, blockBytes, maxBytes, maxBlocks, buffers, gather, scatter);
  }

  async read(section: KvSection, ids: () => readonly number[]): Promise<ArrayBuffer> {
    if (this.inFlight === READS_IN_FLIGHT) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.inFlight++;
    try {
      if (this.destroyed) throw new EngineError('internal', 'The engine is closed.');
      const blocks = ids();
      this.describe(section, blocks);
      const encoder = this.encode(this.gather, section);
      const words = sectionBytes(section, this.blockBytes) / 4;
      const readback = this.ring.record(encoder, [{ source: this.buffers.staging, words }]);
      this.device.queue.submit([encoder.finish()]);
      return (await readback.read().catch((cause) => this.gone(cause))).buffer as ArrayBuffer;
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.inFlight--;
    }
  }

  write(section: KvSection, ids: readonly number[], payload: Uint8Array): void {
    if (this.destroyed) return;
    const { queue } = this.device;
    this.describe(section, ids);
    queue.writeBuffer(this.buffers.staging, 0, payload as Uint8Array<ArrayBuffer>);
    queue.submit([this.encode(this.scatter, section).finish()]);
  }

  destroy(): void {
    this.destroyed = true;
    this.ring.destroy();
    for (const buffer of Object.values(this.buffers)) buffer.destroy();
  }

  private describe({ firstLayer }: KvSection, ids: readonly number[]): void {
    const job = new Uint32Array(JOB_HEAD + ids.length);
    job[0] = ids.length;
    job[1] = firstLayer;
    job.set(ids, JOB_HEAD);
    this.device.queue.writeBuffer(this.buffers.job, 0, job);
  }

  private encode(calls: readonly PreparedCall[], { blocks, firstLayer, layers }: KvSection): GPUCommandEncoder {
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    const inSection = calls.slice(firstLayer, firstLayer + layers);
    encodeCalls(
      pass,
      inSection.map((call) => ({ ...call, workgroups: [call.workgroups[0], blocks, 2] })),
    );
    pass.end();
    return encoder;
  }

  private gone(cause: unknown): never {
    if (this.destroyed) throw new EngineError('internal', 'The engine was closed while it copied KV.', { cause });
    throw new EngineError('device_lost', `The GPU gave no KV back: ${String(cause)}`, { cause });
  }
}
