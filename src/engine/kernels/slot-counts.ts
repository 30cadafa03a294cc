import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';

export interface SlotCountsArgs {
  readonly label: string;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly history: GPUBuffer;
  readonly counts: GPUBuffer;
}

/** Counts the tokens of the slots that the step admits; for steps that admit none there is nothing to dispatch. */
export function slotCounts(a: SlotCountsArgs): KernelCall {
  return {
    label: a.label,
    shader: 'slot_counts.wgsl',
    constants: tableConstants(a.sizes),
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.slots, access: 'read' },
      { buffer: a.history, access: 'read' },
      { buffer: a.counts, access: 'read_write' },
    ],
    workgroups: [a.sizes.maxSlots, 1, 1],
    bytes: a.sizes.maxSlots * 4 * (a.sizes.vocabSize + 3 * a.sizes.maxLen),
    flops: 0,
  };
}
