import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';

/** Ids of one workgroup, 32 a thread: software adapters pay more for a thread's start than for its ids. */
const CHUNK = 2048;

export interface AdjustLogitsArgs {
  readonly label: string;
  /** Logit rows to dispatch. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly rows: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly bias: GPUBuffer;
  readonly counts: GPUBuffer;
  /** [logit row][vocab] f32 */
  readonly logits: GPUBuffer;
  /** [logit row][vocab] f32 */
  readonly scores: GPUBuffer;
}

/** Scores of the rows that sample: logits with min_tokens, logit bias and penalties applied, in vLLM's order. */
export function adjustLogits(a: AdjustLogitsArgs): KernelCall {
  const words = a.bucket * a.sizes.vocabSize;
  return {
    label: a.label,
    shader: 'adjust_logits.wgsl',
    constants: { ...tableConstants(a.sizes), CHUNK },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.rows, access: 'read' },
      { buffer: a.slots, access: 'read' },
      { buffer: a.bias, access: 'read' },
      { buffer: a.counts, access: 'read' },
      { buffer: a.logits, access: 'read' },
      { buffer: a.scores, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.sizes.vocabSize / CHUNK), a.bucket, 1],
    bytes: words * 12,
    flops: words * 5,
  };
}
