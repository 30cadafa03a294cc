import { type KernelCall, PARAMS_BINDING, type PreparedCall } from './kernel.ts';
import { type ShaderLibrary, shaderSource } from './shader-source.ts';

// Plain numbers, since the globals of these names are missing in Node.
const COMPUTE = 4; // GPUShaderStage.COMPUTE
const UNIFORM = 0x40; // GPUBufferUsage.UNIFORM
const BINDING_TYPES = { read: 'read-only-storage', read_write: 'storage', uniform: 'uniform' } as const;

/** Compiled shaders of one device, each variant once. */
export class Pipelines {
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();
  private readonly params = new Map<string, GPUBuffer>();

  constructor(
    private readonly device: GPUDevice,
    private readonly shaders: ShaderLibrary,
  ) {}

  /** Compiles what is not compiled yet and makes the bind groups. Rejects with the shader's name and the compiler's words. */
  async prepare(calls: readonly KernelCall[]): Promise<PreparedCall[]> {
    return Promise.all(
      calls.map(async (call) => {
        const layout = this.layout(call);
        const pipeline = await this.pipeline(call, layout);
        const bindGroup = this.device.createBindGroup({
          label: call.label,
          layout,
          entries: [
            ...call.bindings.map(({ buffer }, binding) => ({ binding, resource: { buffer } })),
            ...(call.params ? [{ binding: PARAMS_BINDING, resource: { buffer: this.uniform(call.params) } }] : []),
          ],
        });
        const { label, workgroups, bytes, flops } = call;
        return { label, pipeline, bindGroup, workgroups, bytes, flops };
      }),
    );
  }

  private layout(call: KernelCall): GPUBindGroupLayout {
    const key = bindingsKey(call);
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        entries: [
          ...call.bindings.map(({ access }, binding) => ({ binding, type: BINDING_TYPES[access] })),
          ...(call.params ? [{ binding: PARAMS_BINDING, type: 'uniform' as const }] : []),
        ].map(({ binding, type }) => ({ binding, visibility: COMPUTE, buffer: { type } })),
      });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private pipeline(call: KernelCall, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const key = `${call.shader} ${JSON.stringify(call.constants)} ${bindingsKey(call)}`;
    let pipeline = this.pipelines.get(key);
    if (!pipeline) {
      pipeline = this.compile(call, layout);
      this.pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  private uniform(params: readonly number[]): GPUBuffer {
    const key = params.join();
    let buffer = this.params.get(key);
    if (!buffer) {
      const size = Math.ceil(params.length / 4) * 16;
      buffer = this.device.createBuffer({ label: 'params', size, usage: UNIFORM, mappedAtCreation: true });
      new Uint32Array(buffer.getMappedRange()).set(params);
      buffer.unmap();
      this.params.set(key, buffer);
    }
    return buffer;
  }

  private async compile(call: KernelCall, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const code = shaderSource(this.shaders, call.shader, call.constants);
    const module = this.device.createShaderModule({ label: call.shader, code });
    try {
      return await this.device.createComputePipelineAsync({
        label: call.shader,
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: 'main' },
      });
    } catch (cause) {
      const info = await module.getCompilationInfo();
      const lines = code.split('\n');
      const words = info.messages.map((m) => `${m.type} at "${lines[m.lineNum - 1]?.trim()}": ${m.message}`).join('\n');
      throw new Error(
        `shader ${call.shader} (${JSON.stringify(call.constants)}) did not compile: ${words || String(cause)}`,
        { cause },
      );
    }
  }
}

/** Dispatches prepared calls in order. */
export function encodeCalls(pass: GPUComputePassEncoder, calls: readonly PreparedCall[]): void {
  let pipeline: GPUComputePipeline | undefined;
  for (const call of calls) {
    if (call.pipeline !== pipeline) {
      pipeline = call.pipeline;
      pass.setPipeline(pipeline);
    }
    pass.setBindGroup(0, call.bindGroup);
    pass.dispatchWorkgroups(call.workgroups[0], call.workgroups[1], call.workgroups[2]);
  }
}

function bindingsKey(call: KernelCall): string {
  return [...call.bindings.map((b) => b.access), call.params ? 'params' : ''].join();
}
