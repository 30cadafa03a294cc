import { encodeCalls, Pipelines } from '../gpu/pipelines.ts';
import type { ShaderLibrary } from '../gpu/shader-source.ts';
import { FLOAT_BYTES, type FloatDtype } from '../kernels/dtype.ts';
import { quantizeRows } from '../kernels/quantize.ts';
import type { PlannedWeight } from './parts.ts';

const STORAGE_USAGE = 0x80 | 0x08; // STORAGE | COPY_DST, as numbers: the global is missing in Node

/** Turns rows of floats into integers in blocks on the GPU, as they come, through one staging buffer. */
export class Quantizer {
  private readonly pipelines: Pipelines;
  private readonly place: GPUBuffer;
  private staging: GPUBuffer | null = null;

  constructor(
    private readonly device: GPUDevice,
    shaders: ShaderLibrary,
  ) {
    this.pipelines = new Pipelines(device, shaders);
    this.place = device.createBuffer({ label: 'place of rows', size: 32, usage: STORAGE_USAGE });
  }

  /** Writes `data`, whole rows of `dtype`, into the weight's buffer from row `row` on. Queue order keeps pieces apart. */
  async write(
    data: Uint8Array,
    dtype: FloatDtype,
    weight: PlannedWeight,
    buffer: GPUBuffer,
    row: number,
  ): Promise<void> {
    const k = weight.spec.cols;
    const rows = data.byteLength / (k * FLOAT_BYTES[dtype]);
    const source = this.stagingFor(data.byteLength);
    const call = quantizeRows({
      label: 'quantize',
      rows,
      k,
      dtype,
      bits: weight.dtype === 'int4' ? 4 : 8,
      place: this.place,
      source,
      weight: buffer,
    });
    const prepared = await this.pipelines.prepare([call]);
    const { queue } = this.device;
    const place = Uint32Array.of(rows, row, k, weight.layout.scalesAt / 4, call.threads);
    queue.writeBuffer(this.place, 0, place);
    queue.writeBuffer(source, 0, data.buffer, data.byteOffset, data.byteLength);
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encodeCalls(pass, prepared);
    pass.end();
    queue.submit([encoder.finish()]);
  }

  destroy(): void {
    this.place.destroy();
    this.staging?.destroy();
  }

  /** Pieces of a stream are of much the same size, so that this grows once or twice. */
  private stagingFor(bytes: number): GPUBuffer {
    if (this.staging && this.staging.size >= bytes) return this.staging;
    // What was submitted keeps it until it is done.
    this.staging?.destroy();
    const size = Math.ceil(bytes / 16) * 16;
    this.staging = this.device.createBuffer({ label: 'rows to quantize', size, usage: STORAGE_USAGE });
    return this.staging;
  }
}
