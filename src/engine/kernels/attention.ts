import type { KernelCall } from '../gpu/kernel.ts';
import { type PagedArgs, pagedConstants } from './paged.ts';
import type { KernelVariant } from './variant.ts';

/** Most threads of a workgroup; a software adapter gives each workgroup to one core. */
const WORKGROUP = { scalar: 16, wide: 64 } as const;

export interface AttentionArgs extends PagedArgs {
  readonly variant: KernelVariant;
  readonly scale: number;
  /** A row sees the last so many positions, its own included; 0 = all. */
  readonly slidingWindow: number;
  /** Scores are bounded by cap * tanh(score / cap); 0 = not. */
  readonly softcap: number;
  /** [bucket][numHeads][headDim] f32 */
  readonly q: GPUBuffer;
  /** [bucket][numHeads][headDim] f32 */
  readonly out: GPUBuffer;
}

/**
 * Causal attention of each active row over its slot's pages, positions 0 to its own (or the last `slidingWindow`).
 * Rows may be any mix of slots and positions. `bytes` and `flops` leave out K and V:
 * how many a row reads depends on its position, which the runner knows.
 */
export function attention(a: AttentionArgs): KernelCall {
  const wide = a.variant === 'wide';
  const workgroup = wide ? WORKGROUP.wide : largestDivisor(a.numHeads, WORKGROUP.scalar);
  return {
    label: a.label,
    shader: wide ? 'attention_wide.wgsl' : 'attention_scalar.wgsl',
    constants: {
      ...pagedConstants(a),
      SCALE: a.scale,
      WINDOW: a.slidingWindow,
      CAP: a.softcap,
      HAS_CAP: Number(a.softcap > 0),
      ...(wide ? { LANES: workgroup } : { WORKGROUP: workgroup }),
    },
    bindings: [
      { buffer: a.rows, access: 'read' },
      { buffer: a.blockTable, access: 'read' },
      { buffer: a.q, access: 'read' },
      { buffer: a.kPool, access: 'read' },
      { buffer: a.vPool, access: 'read' },
      { buffer: a.out, access: 'read_write' },
    ],
    workgroups: wide ? [a.numHeads, a.bucket, 1] : [(a.bucket * a.numHeads) / workgroup, 1, 1],
    bytes: a.bucket * a.numHeads * a.headDim * 8,
    flops: 0,
  };
}

/** So that a workgroup serves one row, whatever the bucket: one shader for all, and no thread past the last row. */
function largestDivisor(n: number, most: number): number {
  for (let d = Math.min(n, most); d > 1; d--) if (n % d === 0) return d;
  return 1;
}
