import type { Gpu } from '../../src/engine/gpu/device.ts';
import type { KernelCall } from '../../src/engine/gpu/kernel.ts';
import { encodeCalls, Pipelines } from '../../src/engine/gpu/pipelines.ts';

/** One kernel, or several in order, on buffers made from host arrays: for tests and benches of single kernels, in Node and in a page. */
export class KernelRunner {
  readonly pipelines: Pipelines;
  /** shaders: the text of a file of `shaders/`. */
  constructor(
    readonly gpu: Gpu,
    readonly shaders: (path: string) => string,
  ) {
    this.pipelines = new Pipelines(gpu.device, shaders);
  }

  buffer(data: ArrayBufferView | number): GPUBuffer {
    const size = Math.max(16, Math.ceil((typeof data === 'number' ? data : data.byteLength) / 4) * 4);
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = this.gpu.device.createBuffer({ size, usage });
    if (typeof data !== 'number')
      this.gpu.device.queue.writeBuffer(buffer, 0, data.buffer, data.byteOffset, data.byteLength);
    return buffer;
  }

  async run(...calls: KernelCall[]): Promise<void> {
    const prepared = await this.pipelines.prepare(calls);
    this.gpu.device.pushErrorScope('validation');
    const encoder = this.gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encodeCalls(pass, prepared);
    pass.end();
    this.gpu.device.queue.submit([encoder.finish()]);
    const error = await this.gpu.device.popErrorScope();
    if (error) throw new Error(error.message);
  }

  async read(buffer: GPUBuffer): Promise<ArrayBuffer> {
    const staging = this.gpu.device.createBuffer({
      size: buffer.size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    const encoder = this.gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
    this.gpu.device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const copy = staging.getMappedRange().slice(0);
    staging.destroy();
    return copy;
  }
}
