import { readFileSync } from 'node:fs';
import { create, globals } from 'webgpu';
import { type Gpu, openGpu } from '../../src/engine/gpu/device.ts';
import { KernelRunner } from './kernel-runner.ts';

Object.assign(globalThis, globals);

/** Kept for the life of the process: Dawn frees a device's instance when this is collected. */
let instance: GPU | undefined;

/** WebGPU in Node, through Dawn. `scripts/with-gpu.ts` names the driver (SwiftShader unless a GPU is asked for). */
export async function openDawn(limits: { readonly maxBufferBytes?: number } = {}): Promise<Gpu> {
  // SwiftShader takes seconds to compile what clears workgroup memory, word by word. No kernel may count on it being cleared.
  const uncleared = process.env.VK_DRIVER_FILES?.includes('swiftshader') ? ',disable_workgroup_init' : '';
  instance ??= create([
    `enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia${uncleared}`,
    'disable-dawn-features=timestamp_quantization',
  ]);
  return openGpu(instance, { allowSoftware: true, ...limits });
}

let shared: Promise<Gpu> | undefined;
let users = 0;

/**
 * One device for all engines of a test file that ask for none of their own. It keeps what was compiled, which Dawn then finds again: on a
 * software adapter an engine takes far longer to compile than to run. When its last user destroys it, its buffers are destroyed.
 */
export function sharedDawn(): Promise<Gpu> {
  users++;
  shared ??= openDawn().then((gpu) => {
    const { device } = gpu;
    const compile = device.createComputePipelineAsync.bind(device);
    const kept: GPUComputePipeline[] = [];
    device.createComputePipelineAsync = async (descriptor) => {
      const pipeline = await compile(descriptor);
      kept.push(pipeline);
      return pipeline;
    };
    const allocate = device.createBuffer.bind(device);
    const buffers = new Set<GPUBuffer>();
    device.createBuffer = (descriptor) => {
      const buffer = allocate(descriptor);
      buffers.add(buffer);
      return buffer;
    };
    device.destroy = () => {
      if (--users > 0) return;
      for (const buffer of buffers) buffer.destroy();
      buffers.clear();
    };
    return gpu;
  });
  return shared;
}

export const shaders = (path: string): string =>
  readFileSync(new URL(`../../shaders/${path}`, import.meta.url), 'utf8');

/** Kernels under Dawn. */
export class Bench extends KernelRunner {
  constructor(gpu: Gpu) {
    super(gpu, shaders);
  }
}
