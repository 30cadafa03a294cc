import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';

const WORKGROUP = 64;

export interface AcceptArgs {
  readonly label: string;
  /** Logit rows to dispatch. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly rows: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly history: GPUBuffer;
  readonly counts: GPUBuffer;
  readonly samples: GPUBuffer;
}

/** Commits what `sample` chose, slot by slot in order, as far as the drafts were right; the samples after that become REJECTED. */
export function accept(a: AcceptArgs): KernelCall {
  return {
    label: a.label,
    shader: 'accept.wgsl',
    constants: { ...tableConstants(a.sizes), WORKGROUP },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.rows, access: 'read' },
      { buffer: a.slots, access: 'read_write' },
      { buffer: a.history, access: 'read_write' },
      { buffer: a.counts, access: 'read_write' },
      { buffer: a.samples, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.bucket / WORKGROUP), 1, 1],
    bytes: a.bucket * 28,
    flops: 0,
  };
}
