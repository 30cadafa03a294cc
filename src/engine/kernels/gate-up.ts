import type { KernelCall } from '../gpu/kernel.ts';
import { normedInput, type ProductArgs, type ProductKind, product } from './product.ts';

const SHADERS: Readonly<Record<ProductKind, string>> = {
  lanes: 'gate_up.wgsl',
  block: 'gate_up_block.wgsl',
  matrix: 'gate_up_matrix.wgsl',
};

export interface GateUpArgs extends ProductArgs {
  readonly activation: 'silu' | 'gelu_tanh';
}

/** out[r][j] = act(input[r] . weight[j]) * (input[r] . weight[n + j]); weight [2n][k]: all gate rows, then all up rows. */
export function gateUp(a: GateUpArgs): KernelCall {
  const { kind, tile: _tile, ...p } = product(a, 2);
  const norm = normedInput(a, p.bindings.length);
  return {
    ...p,
    label: a.label,
    shader: SHADERS[kind],
    constants: {
      ...p.constants,
      GELU: Number(a.activation === 'gelu_tanh'),
      ...(kind === 'matrix' && { DIRECT: 0, ACCUMULATE: 0 }),
      ...(kind === 'lanes' && norm.constants),
    },
    bindings: [...p.bindings, ...norm.bindings],
  };
}
