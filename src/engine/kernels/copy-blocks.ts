import type { KernelCall } from '../gpu/kernel.ts';

const WORKGROUP = 64;
/** Words of a copy's job before its block ids: blocks, first layer, two of nothing. */
export const JOB_HEAD = 4;

export interface CopyBlocksArgs {
  readonly label: string;
  readonly layer: number;
  /** Bytes of one block in one pool: a multiple of 16. */
  readonly blockBytes: number;
  /** Blocks to dispatch. */
  readonly blocks: number;
  /** u32: blocks, first layer of the section, 0, 0, block ids */
  readonly job: GPUBuffer;
  /** [block][block bytes] */
  readonly kPool: GPUBuffer;
  readonly vPool: GPUBuffer;
  /** [layer of the section][K, V][block of the section][block bytes] */
  readonly staging: GPUBuffer;
}

/** Blocks of one layer from the pool into staging. */
export function gatherBlocks(a: CopyBlocksArgs): KernelCall {
  return {
    ...common(a),
    shader: 'gather_blocks.wgsl',
    bindings: [
      { buffer: a.job, access: 'read' },
      { buffer: a.kPool, access: 'read' },
      { buffer: a.vPool, access: 'read' },
      { buffer: a.staging, access: 'read_write' },
    ],
  };
}

/** Blocks of one layer from staging into the pool. */
export function scatterBlocks(a: CopyBlocksArgs): KernelCall {
  return {
    ...common(a),
    shader: 'scatter_blocks.wgsl',
    bindings: [
      { buffer: a.job, access: 'read' },
      { buffer: a.staging, access: 'read' },
      { buffer: a.kPool, access: 'read_write' },
      { buffer: a.vPool, access: 'read_write' },
    ],
  };
}

function common({ label, layer, blockBytes, blocks }: CopyBlocksArgs): Omit<KernelCall, 'shader' | 'bindings'> {
  const quads = blockBytes / 16;
  return {
    label,
    constants: { QUADS: quads, WORKGROUP },
    params: [layer],
    workgroups: [Math.ceil(quads / WORKGROUP), blocks, 2],
    bytes: 4 * blocks * blockBytes,
    flops: 0,
  };
}
