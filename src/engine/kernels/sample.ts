import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';
import type { KernelVariant } from './variant.ts';

/** Threads that share a row. Software adapters run 4 lanes as one, and pay for every barrier between more of them. */
const LANES: Readonly<Record<KernelVariant, number>> = { scalar: 4, wide: 256 };

export interface SampleArgs {
  readonly label: string;
  readonly variant: KernelVariant;
  /** Logit rows to dispatch. */
  readonly bucket: number;
  readonly sizes: TableSizes;
  /** false: rows may hold drafts, and `accept` commits. */
  readonly commit: boolean;
  readonly step: GPUBuffer;
  readonly rows: GPUBuffer;
  readonly slots: GPUBuffer;
  /** [logit row][vocab] f32, from `adjustLogits` */
  readonly scores: GPUBuffer;
  readonly history: GPUBuffer;
  readonly counts: GPUBuffer;
  readonly samples: GPUBuffer;
  /** `sampleScratchBytes` bytes. */
  readonly scratch: GPUBuffer;
}

const quads = (sizes: TableSizes) => Math.ceil(sizes.vocabSize / 4);

/** Constants of `lib/row_search.wgsl`. */
export function rowSearchConstants(sizes: TableSizes, variant: KernelVariant): { QUADS: number; LANES: number } {
  return { QUADS: quads(sizes), LANES: LANES[variant] };
}

/** Size of `sample`'s scratch buffer: for each logit row a list of groups of four ids. */
export function sampleScratchBytes(sizes: TableSizes): number {
  return sizes.maxLogitRows * quads(sizes) * 4;
}

/**
 * Samples one id for each row of kind LOGIT_SAMPLE into `samples`, and may commit it: history, length, counts, done flag.
 * Rows that are inactive, done or of another kind get NO_TOKEN and change nothing.
 */
export function sample(a: SampleArgs): KernelCall {
  const words = a.bucket * a.sizes.vocabSize;
  return {
    label: a.label,
    shader: 'sample.wgsl',
    constants: { ...tableConstants(a.sizes), ...rowSearchConstants(a.sizes, a.variant), COMMIT: Number(a.commit) },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.rows, access: 'read' },
      { buffer: a.slots, access: 'read_write' },
      { buffer: a.scores, access: 'read' },
      { buffer: a.history, access: 'read_write' },
      { buffer: a.counts, access: 'read_write' },
      { buffer: a.samples, access: 'read_write' },
      { buffer: a.scratch, access: 'read_write' },
    ],
    workgroups: [a.bucket, 1, 1],
    bytes: words * 4,
    flops: words,
  };
}
