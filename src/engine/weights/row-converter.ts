import { encodeCalls, Pipelines } from '../gpu/pipelines.ts';
import { readBuffer } from '../gpu/readback.ts';
import type { ShaderLibrary } from '../gpu/shader-source.ts';
import { convertFloats } from '../kernels/convert.ts';
import { FLOAT_BYTES, type FloatDtype, isBlockDtype } from '../kernels/dtype.ts';
import { quantizeRows } from '../kernels/quantize.ts';
import type { PlannedWeight } from './parts.ts';

const STORAGE_USAGE = 0x80 | 0x08 | 0x04; // STORAGE | COPY_DST | COPY_SRC, as numbers: the global is missing in Node

/** Turns rows of floats into what a weight is held as on the GPU, as they come, through one staging buffer. */
export class RowConverter {
  private readonly pipelines: Pipelines;
  private readonly place: GPUBuffer;
  private readonly clamped: GPUBuffer;
  private staging: GPUBuffer | null = null;

  constructor(
    private readonly device: GPUDevice,
    shaders: ShaderLibrary,
  ) {
    this.pipelines = new Pipelines(device, shaders);
    this.place = device.createBuffer({ label: 'place of rows', size: 32, usage: STORAGE_USAGE });
    this.clamped = device.createBuffer({ label: 'clamped numbers', size: 16, usage: STORAGE_USAGE });
  }

  /** Writes `data`, whole rows of `dtype`, into the weight's buffer from row `row` on. Queue order keeps pieces apart. */
  async write(
    data: Uint8Array,
    dtype: FloatDtype,
    weight: PlannedWeight,
    buffer: GPUBuffer,
    row: number,
  ): Promise<void> {
    const source = this.stagingFor(data.byteLength);
    const { call, place } = this.callFor(data.byteLength, dtype, weight, buffer, row, source);
    const prepared = await this.pipelines.prepare([call]);
    const { queue } = this.device;
    queue.writeBuffer(this.place, 0, place);
    queue.writeBuffer(source, 0, data.buffer, data.byteOffset, data.byteLength);
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encodeCalls(pass, prepared);
    pass.end();
    queue.submit([encoder.finish()]);
  }

  /** How many numbers so far were beyond what a f16 holds, and became +-65504. */
  async clampedNumbers(): Promise<number> {
    return new Uint32Array(await readBuffer(this.device, this.clamped))[0] ?? 0;
  }

  destroy(): void {
    this.place.destroy();
    this.clamped.destroy();
    this.staging?.destroy();
  }

  private callFor(
    bytes: number,
    dtype: FloatDtype,
    weight: PlannedWeight,
    buffer: GPUBuffer,
    row: number,
    source: GPUBuffer,
  ) {
    const k = weight.spec.cols;
    const numbers = bytes / FLOAT_BYTES[dtype];
    const shared = { place: this.place, source, weight: buffer };
    if (isBlockDtype(weight.dtype)) {
      const rows = numbers / k;
      const bits = weight.dtype === 'int4' ? 4 : 8;
      const call = quantizeRows({ ...shared, label: 'quantize', rows, k, dtype, bits });
      return { call, place: Uint32Array.of(rows, row, k, weight.layout.scalesAt / 4, call.threads) };
    }
    const { clamped } = this;
    const pairs = numbers / 2;
    const call = convertFloats({ ...shared, label: 'convert', pairs, from: dtype, to: weight.dtype, clamped });
    return { call, place: Uint32Array.of(pairs, (row * k) / 2, call.threads) };
  }

  /** Pieces of a stream are of much the same size, so that this grows once or twice. */
  private stagingFor(bytes: number): GPUBuffer {
    if (this.staging && this.staging.size >= bytes) return this.staging;
    // What was submitted keeps it until it is done.
    this.staging?.destroy();
    const size = Math.ceil(bytes / 16) * 16;
    this.staging = this.device.createBuffer({ label: 'rows to convert', size, usage: STORAGE_USAGE });
    return this.staging;
  }
}
