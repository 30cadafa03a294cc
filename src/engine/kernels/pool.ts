import type { KernelCall } from '../gpu/kernel.ts';
import { type TableSizes, tableConstants } from '../tables.ts';

const WORKGROUP = 64;

export interface PoolArgs {
  readonly label: string;
  /** Logit rows to dispatch. */
  readonly bucket: number;
  readonly width: number;
  readonly sizes: TableSizes;
  readonly step: GPUBuffer;
  readonly rows: GPUBuffer;
  /** [rows][width] f32 */
  readonly normed: GPUBuffer;
  /** [slots][width] f32 */
  readonly sums: GPUBuffer;
  /** [bucket][width] f32 */
  readonly out: GPUBuffer;
}

/** For each logit row: its own row (LOGIT_LAST), or the sum of all rows of its sequence up to it (LOGIT_MEAN), which `sums` carries from step to step. */
export function pool(a: PoolArgs): KernelCall {
  return {
    label: a.label,
    shader: 'pool.wgsl',
    constants: { ...tableConstants(a.sizes), WIDTH: a.width, WORKGROUP },
    bindings: [
      { buffer: a.step, access: 'read' },
      { buffer: a.rows, access: 'read' },
      { buffer: a.normed, access: 'read' },
      { buffer: a.sums, access: 'read_write' },
      { buffer: a.out, access: 'read_write' },
    ],
    workgroups: [Math.ceil(a.width / WORKGROUP), a.bucket, 1],
    bytes: a.bucket * a.width * 16,
    flops: a.bucket * a.width,
  };
}
