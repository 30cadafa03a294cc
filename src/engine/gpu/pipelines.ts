import type { Binding, KernelCall, PreparedCall } from './kernel.ts';
import { type ShaderLibrary, shaderSource } from './shader-source.ts';

const BINDING_TYPES = { read: 'read-only-storage', read_write: 'storage', uniform: 'uniform' } as const;

/** Compiled shaders of one device, each variant once. */
export class Pipelines {
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly layouts = new Map<string, GPUBindGroupLayout>();

  constructor(
    private readonly device: GPUDevice,
    private readonly shaders: ShaderLibrary,
  ) {}

  /** Compiles what is not compiled yet and makes the bind groups. Rejects with the shader's name and the compiler's words. */
  async prepare(calls: readonly KernelCall[]): Promise<PreparedCall[]> {
    return Promise.all(
      calls.map(async (call) => {
        const layout = this.layout(call.bindings);
        const pipeline = await this.pipeline(call, layout);
        const bindGroup = this.device.createBindGroup({
          label: call.label,
          layout,
          entries: call.bindings.map((b, binding) => ({ binding, resource: { buffer: b.buffer } })),
        });
        const { label, workgroups, bytes, flops } = call;
        return { label, pipeline, bindGroup, workgroups, bytes, flops };
      }),
    );
  }

  private layout(bindings: readonly Binding[]): GPUBindGroupLayout {
    const key = bindings.map((b) => b.access).join();
    let layout = this.layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        entries: bindings.map((b, binding) => ({
          binding,
          visibility: 4 /* GPUShaderStage.COMPUTE: a plain number, since the global is missing in Node */,
          buffer: { type: BINDING_TYPES[b.access] },
        })),
      });
      this.layouts.set(key, layout);
    }
    return layout;
  }

  private pipeline(call: KernelCall, layout: GPUBindGroupLayout): Promise<GPUComputePipeline> {
    const access = call.bindings.map((b) => b.access).join();
    const key = `${call.shader} ${JSON.stringify(call.constants)} ${access}`;
    let pipeline = this.pipelines.get(key);
    if (!pipeline) {
      pipeline = this.compile(call, layout);
      this.pipelines.set(key, pipeline);
    }
    return pipeline;
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
