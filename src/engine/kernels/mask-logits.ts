import type { KernelCall } from '../gpu/kernel.ts';
import { maskWords, type TableSizes, tableConstants } from '../tables.ts';

/** Ids of one workgroup, 32 a thread: software adapters pay more for a thread's start than for its ids. */
const CHUNK = 2048;

export interface MaskLogitsArgs {
  readonly label: string;
  /** Logit rows to dispatch. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly rows: GPUBuffer;
  readonly masks: GPUBuffer;
  /** [logit row][vocab] f32 */
  readonly logits: GPUBuffer;
}

/** Takes the ids that a grammar does not allow out of the logits, for rows of kind LOGIT_MASKED. Comes before all that reads logits. */
export function maskLogits(a: MaskLogitsArgs): KernelCall {
  const words = a.bucket * a.sizes.vocabSize;
  return {
    label: a.label,
    shader: 'mask_logits.wgsl',
    constants: { ...tableConstants(a.sizes), CHUNK },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.rows, access: 'read' },
      { buffer: a.masks, access: 'read' },
      { buffer: a.logits, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.sizes.vocabSize / CHUNK), a.bucket, 1],
    bytes: words * 8 + a.bucket * maskWords(a.sizes) * 4,
    flops: 0,
  };
}
