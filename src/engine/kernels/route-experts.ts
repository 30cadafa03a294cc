import type { KernelCall } from '../gpu/kernel.ts';

const WORKGROUP = 16;

export interface RouteExpertsArgs {
  readonly label: string;
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly experts: number;
  readonly perToken: number;
  /** The chosen probabilities are divided by their sum. */
  readonly normalized: boolean;
  /** u32; how many rows are in use is its word `countWord`. */
  readonly step: GPUBuffer;
  readonly countWord: number;
  /** [bucket][experts] f32 */
  readonly logits: GPUBuffer;
  /** [bucket][perToken] vec2<u32>(expert, weight as bits of f32) */
  readonly chosen: GPUBuffer;
}

/** The `perToken` experts of largest probability of each row, and their weights. */
export function routeExperts(a: RouteExpertsArgs): KernelCall {
  return {
    label: a.label,
    shader: 'route_experts.wgsl',
    constants: {
      EXPERTS: a.experts,
      PER_TOKEN: a.perToken,
      NORMALIZED: Number(a.normalized),
      COUNT_WORD: a.countWord,
      WORKGROUP,
    },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.logits, access: 'read' },
      { buffer: a.chosen, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.bucket / WORKGROUP), 1, 1],
    bytes: a.bucket * (a.experts * 4 + a.perToken * 8),
    flops: a.bucket * a.experts * (4 + a.perToken),
  };
}
