import type { KernelCall } from '../gpu/kernel.ts';
import { type ProductArgs, product } from './product.ts';

export interface MatmulArgs extends ProductArgs {
  /** f32, as many as `out` has columns, added to every row. */
  readonly bias?: GPUBuffer;
  /** Adds to what `out` holds. */
  readonly accumulate: boolean;
}

/** out[r][j] = sum_k input[r][k] * weight[j][k] (+ bias[j]) (+ the old out[r][j]); weight [n][k]. */
export function matmul(a: MatmulArgs): KernelCall {
  const { block, ...p } = product(a, 1);
  return {
    ...p,
    label: a.label,
    shader: block ? 'matmul_block.wgsl' : 'matmul.wgsl',
    constants: { ...p.constants, BIAS: Number(a.bias !== undefined), ACCUMULATE: Number(a.accumulate) },
    bindings: a.bias ? [...p.bindings, { buffer: a.bias, access: 'read' }] : p.bindings,
  };
}
