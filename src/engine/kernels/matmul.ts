import type { KernelCall } from '../gpu/kernel.ts';
import { normedInput, type ProductArgs, type ProductKind, product } from './product.ts';

const SHADERS: Readonly<Record<ProductKind, string>> = {
  lanes: 'matmul.wgsl',
  block: 'matmul_block.wgsl',
  matrix: 'matmul_matrix.wgsl',
};

export interface MatmulArgs extends ProductArgs {
  /** f32, as many as `out` has columns, added to every row. */
  readonly bias?: GPUBuffer;
  /** Adds to what `out` holds. */
  readonly accumulate: boolean;
}

/** out[r][j] = sum_k input[r][k] * weight[j][k] (+ bias[j]) (+ the old out[r][j]); weight [n][k]. */
export function matmul(a: MatmulArgs): KernelCall {
  const { kind, tile, ...p } = product(a, 1);
  const norm = normedInput(a, a.bias ? 5 : 4);
  // Whole matrices go straight to `out`.
  const direct = kind === 'matrix' && p.constants.PARTS === 1 && a.bias === undefined && a.n % tile.columns === 0;
  return {
    ...p,
    label: a.label,
    shader: SHADERS[kind],
    constants: {
      ...p.constants,
      BIAS: Number(a.bias !== undefined),
      ACCUMULATE: Number(a.accumulate),
      ...(kind === 'matrix' && { DIRECT: Number(direct) }),
      ...(kind === 'lanes' && norm.constants),
    },
    bindings: [...p.bindings, ...(a.bias ? [{ buffer: a.bias, access: 'read' as const }] : []), ...norm.bindings],
  };
}
