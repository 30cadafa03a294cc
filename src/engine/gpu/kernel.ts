import type { Constants } from './shader-source.ts';

/** `@binding` of a call's `params`. */
export const PARAMS_BINDING = 8;

/** How a shader binds a buffer; the position in `bindings` is the `@binding` number, the group is 0. */
export interface Binding {
  readonly buffer: GPUBuffer;
  readonly access: 'read' | 'read_write' | 'uniform';
}

/**
 * One dispatch of one shader: what a descriptor of `src/engine/kernels` returns. Everything that varies from step to
 * step lives in the bound buffers, so that a call can be prepared once and dispatched many times.
 */
export interface KernelCall {
  /** For tables and error messages, e.g. `layer 3 qkv`. */
  readonly label: string;
  /** Path in `shaders/`, e.g. `matmul.wgsl`; its entry point is `main`. */
  readonly shader: string;
  readonly constants: Constants;
  readonly bindings: readonly Binding[];
  /** Numbers that differ between calls which share a compiled shader: a uniform of u32 at `@binding(8)`, after all storage bindings. */
  readonly params?: readonly number[];
  readonly workgroups: readonly [x: number, y: number, z: number];
  /** Bytes moved and floating point operations of one dispatch with all rows in use, for rooflines. */
  readonly bytes: number;
  readonly flops: number;
}

/** `KernelCall` with its pipeline compiled and its bind group made. */
export interface PreparedCall {
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly workgroups: readonly [x: number, y: number, z: number];
  readonly bytes: number;
  readonly flops: number;
}
