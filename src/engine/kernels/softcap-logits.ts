import type { KernelCall } from '../gpu/kernel.ts';

const WORKGROUP = 64;

export interface SoftcapLogitsArgs {
  readonly label: string;
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly width: number;
  /** Above 0. */
  readonly cap: number;
  /** u32; how many rows are in use is its word `countWord`. */
  readonly step: GPUBuffer;
  readonly countWord: number;
  /** [bucket][width] f32 */
  readonly logits: GPUBuffer;
}

/** logits = cap * tanh(logits / cap), in place. */
export function softcapLogits(a: SoftcapLogitsArgs): KernelCall {
  return {
    label: a.label,
    shader: 'softcap_logits.wgsl',
    constants: { WIDTH: a.width, CAP: a.cap, HAS_CAP: 1, COUNT_WORD: a.countWord, WORKGROUP },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.logits, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.width / WORKGROUP), a.bucket, 1],
    bytes: a.bucket * a.width * 8,
    flops: a.bucket * a.width * 4,
  };
}
