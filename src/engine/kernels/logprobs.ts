import type { KernelCall } from '../gpu/kernel.ts';
import { LOGPROB_STRIDE, type TableSizes, tableConstants } from '../tables.ts';
import { rowSearchConstants } from './sample.ts';
import type { KernelVariant } from './variant.ts';

export interface LogprobsArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Logit rows to dispatch. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly rows: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly history: GPUBuffer;
  /** [logit row][vocab] f32, raw */
  readonly logits: GPUBuffer;
  /** What `sample` chose in this step. */
  readonly samples: GPUBuffer;
  readonly logprobs: GPUBuffer;
  /** `sampleScratchBytes` bytes; may be the buffer that `sample` uses. */
  readonly scratch: GPUBuffer;
}

/** Logprob and rank of the target and the slot's NUM_TOP best ids, for each row of kind LOGIT_LOGPROBS. Comes after `sample`. */
export function logprobs(a: LogprobsArgs): KernelCall {
  const words = a.bucket * a.sizes.vocabSize;
  return {
    label: a.label,
    shader: 'logprobs.wgsl',
    constants: { ...tableConstants(a.sizes), ...rowSearchConstants(a.sizes, a.variant) },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.rows, access: 'read' },
      { buffer: a.slots, access: 'read' },
      { buffer: a.history, access: 'read' },
      { buffer: a.logits, access: 'read' },
      { buffer: a.samples, access: 'read' },
      { buffer: a.logprobs, access: 'read_write' },
      { buffer: a.scratch, access: 'read_write' },
    ],
    workgroups: [a.bucket, 1, 1],
    bytes: words * 4 + a.bucket * LOGPROB_STRIDE * 4,
    flops: words * 4,
  };
}
