import type { KernelCall } from '../gpu/kernel.ts';
import { type ProductArgs, product } from './product.ts';

/** As of a product; `weight` holds one matrix for each expert, one after the other. */
export interface ExpertsArgs extends ProductArgs {
  readonly perToken: number;
  /** [bucket][perToken] vec2<u32>(expert, weight as bits of f32) */
  readonly chosen: GPUBuffer;
}

/** out[r * perToken + j] = gated activation of row r by its j-th expert; weight [experts][2n][k], out [bucket * perToken][n]. */
export function expertGateUp(a: ExpertsArgs & { readonly activation: 'silu' | 'gelu_tanh' }): KernelCall {
  return expertsCall(a, 2, 'expert_gate_up.wgsl', a.perToken, { GELU: Number(a.activation === 'gelu_tanh') });
}

/** out[r] = sum over j of weight_j * (input[r * perToken + j] through expert j) (+ the old out[r]); weight [experts][n][k]. */
export function expertDown(a: ExpertsArgs & { readonly accumulate: boolean }): KernelCall {
  return expertsCall(a, 1, 'expert_down.wgsl', 1, { ACCUMULATE: Number(a.accumulate) });
}

/** Rows choose different experts, so each is a tile of its own: as many as for a product of one row, once for each row of `out`. */
function expertsCall(
  a: ExpertsArgs,
  lines: number,
  shader: string,
  rowsPerToken: number,
  constants: KernelCall['constants'],
): KernelCall {
  const { kind: _, tile: __, ...p } = product({ ...a, bucket: 1 }, lines);
  const [x, y] = p.workgroups;
  return {
    ...p,
    label: a.label,
    shader,
    constants: { ...p.constants, ONE_ROW: 0, NORM: 0, PER_TOKEN: a.perToken, ...constants },
    bindings: [...p.bindings, { buffer: a.chosen, access: 'read' }],
    workgroups: [x, y, a.bucket * rowsPerToken],
    bytes: p.bytes * a.bucket * a.perToken,
    flops: p.flops * a.bucket * a.perToken,
  };
}
