import type { KernelCall } from '../gpu/kernel.ts';
import { type ProductArgs, product } from './product.ts';

export interface GateUpArgs extends ProductArgs {
  readonly activation: 'silu' | 'gelu_tanh';
}

/** out[r][j] = act(input[r] . weight[j]) * (input[r] . weight[n + j]); weight [2n][k]: all gate rows, then all up rows. */
export function gateUp(a: GateUpArgs): KernelCall {
  const { block, ...p } = product(a, 2);
  return {
    ...p,
    label: a.label,
    shader: block ? 'gate_up_block.wgsl' : 'gate_up.wgsl',
    constants: { ...p.constants, GELU: Number(a.activation === 'gelu_tanh') },
  };
}
