import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';

const WORKGROUP = 64;

export interface BeginArgs {
  readonly label: string;
  /** Rows to resolve; those past the step's own become inactive. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly history: GPUBuffer;
  readonly blockTable: GPUBuffer;
  readonly rows: GPUBuffer;
}

/** Applies the step's block-table deltas and resolves its rows: slot, position, token, active. */
export function begin(a: BeginArgs): KernelCall {
  return {
    label: a.label,
    shader: 'begin.wgsl',
    constants: tableConstants(a.sizes),
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.slots, access: 'read' },
      { buffer: a.history, access: 'read' },
      { buffer: a.blockTable, access: 'read_write' },
      { buffer: a.rows, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.bucket / WORKGROUP), 1, 1],
    bytes: a.bucket * 36,
    flops: 0,
  };
}
