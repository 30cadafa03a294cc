import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';
import type { KernelVariant } from './variant.ts';

/** Threads that share a search. Software adapters pay for every barrier between more than a few. */
const LANES: Readonly<Record<KernelVariant, number>> = { scalar: 4, wide: 256 };

export interface DraftArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Rows to dispatch. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  /** Fewest and most tokens at the end of a history that are looked up in it. */
  readonly lookup: { readonly min: number; readonly max: number };
  readonly step: GPUBuffer;
  readonly slots: GPUBuffer;
  readonly history: GPUBuffer;
  readonly rows: GPUBuffer;
}

/** Fills the rows of drafts with what followed the slot's last tokens earlier in its history. Comes after `begin`. */
export function draft(a: DraftArgs): KernelCall {
  return {
    label: a.label,
    shader: 'draft.wgsl',
    constants: {
      ...tableConstants(a.sizes),
      MIN_LOOKUP: a.lookup.min,
      MAX_LOOKUP: a.lookup.max,
      LANES: LANES[a.variant],
    },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.slots, access: 'read' },
      { buffer: a.history, access: 'read' },
      { buffer: a.rows, access: 'read_write' },
    ],
    workgroups: [a.bucket, 1, 1],
    bytes: a.bucket * 36,
    flops: 0,
  };
}
