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

export const shaders = (path: string): string =>
  readFileSync(new URL(`../../shaders/${path}`, import.meta.url), 'utf8');

/** Kernels under Dawn. */
export class Bench extends KernelRunner {
  constructor(gpu: Gpu) {
    super(gpu, shaders);
  }
}
