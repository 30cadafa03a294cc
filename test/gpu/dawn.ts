import { readFileSync } from 'node:fs';
import { create, globals } from 'webgpu';
import { type Gpu, openGpu } from '../../src/engine/gpu/device.ts';
import type { KernelCall } from '../../src/engine/gpu/kernel.ts';
import { encodeCalls, Pipelines } from '../../src/engine/gpu/pipelines.ts';

Object.assign(globalThis, globals);

/** Kept for the life of the process: Dawn frees a device's instance when this is collected. */
let instance: GPU | undefined;

/** WebGPU in Node, through Dawn. `scripts/with-gpu.ts` names the driver (SwiftShader unless a GPU is asked for). */
export async function openDawn(limits: { readonly maxBufferBytes?: number } = {}): Promise<Gpu> {
  instance ??= create([
    // SwiftShader takes seconds to compile what clears workgroup memory, word by word. No kernel may count on it being cleared.
    'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,disable_workgroup_init',
    'disable-dawn-features=timestamp_quantization',
  ]);
  return openGpu(instance, { allowSoftware: true, ...limits });
}

export const shaders = (path: string): string =>
  readFileSync(new URL(`../../shaders/${path}`, import.meta.url), 'utf8');

/** One kernel, or several in order, on buffers made from host arrays; for tests of single kernels. */
export class Bench {
  readonly pipelines: Pipelines;
  constructor(readonly gpu: Gpu) {
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
