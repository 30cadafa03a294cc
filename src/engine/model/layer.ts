import type { KernelCall } from '../gpu/kernel.ts';
import { attention } from '../kernels/attention.ts';
import { expertDown, expertGateUp } from '../kernels/experts.ts';
import { gateUp } from '../kernels/gate-up.ts';
import { matmul } from '../kernels/matmul.ts';
import { rmsNorm } from '../kernels/rms-norm.ts';
import { ropeKv } from '../kernels/rope-kv.ts';
import { routeExperts } from '../kernels/route-experts.ts';
import { STEP_NUM_ROWS } from '../tables.ts';
import { hasLora, loraCalls, loraGateUp } from './lora-calls.ts';
import { operands } from './operand.ts';
import type { ProgramInputs, StepRows } from './program-inputs.ts';
import type { ExpertsSpec, LayerSpec, TensorRole } from './spec.ts';

/** Layer `i` over the rows of a bucket: attention and MLP, each added to the residual stream. */
export function oneLayer(p: ProgramInputs, rows: StepRows, layer: LayerSpec, i: number): KernelCall[] {
  const { bucket, chunks } = rows;
  const { spec, variant, matrices, buffers: b } = p;
  const heads = { numHeads: spec.numHeads, numKvHeads: spec.numKvHeads, headDim: spec.headDim };
  const paged = {
    kvDtype: p.kvDtype,
    blockSize: p.blockSize,
    maxBlocksPerSeq: p.sizes.maxBlocksPerSeq,
    rows: b.rows,
    blockTable: b.blockTable,
    kPool: p.pool[i]!.k,
    vPool: p.pool[i]!.v,
  };
  const { norm, product } = parts(p, bucket, i);
  // Where what a branch gives is normed first, it is added to the residual stream by the norm.
  const branch = spec.outNorms ? b.branch : b.hidden;
  const added = !spec.outNorms;
  return [
    norm('inputNorm', b.hidden, b.normed),
    ...product('qkv', spec.qkvBias ? 'qkvBias' : null, b.normed, b.qkv, false),
    ...loraCalls(p, rows, 'qkv', i, b.normed, b.qkv),
    ropeKv({
      ...heads,
      ...paged,
      label: `layer ${i} rope`,
      variant,
      bucket,
      rotaryDim: layer.rope.rotaryDim,
      attentionFactor: layer.rope.attentionFactor,
      qkNorm: spec.qkNorm,
      eps: spec.normEps,
      offset: spec.normOffset,
      qkv: b.qkv,
      norms: p.weights.get(spec.qkNorm ? 'qkNorm' : 'inputNorm', i).buffer,
      invFreq: p.invFreq[i]!,
      q: b.q,
    }),
    ...attention({
      ...heads,
      ...paged,
      label: `layer ${i} attention`,
      variant,
      matrices,
      bucket,
      chunks,
      scale: spec.attentionScale,
      slidingWindow: layer.slidingWindow ?? 0,
      softcap: spec.attentionSoftcap,
      q: b.q,
      partials: b.partials,
      out: b.attended,
    }),
    ...product('oProj', spec.oBias ? 'oBias' : null, b.attended, branch, added),
    ...loraCalls(p, rows, 'oProj', i, b.attended, branch),
    ...(spec.outNorms ? [norm('attentionOutNorm', branch, b.hidden, true)] : []),
    norm('mlpNorm', b.hidden, b.normed),
    ...(layer.experts === null ? dense(p, rows, i, branch, added) : sparse(p, bucket, i, layer.experts, branch, added)),
    ...(spec.outNorms ? [norm('mlpOutNorm', branch, b.hidden, true)] : []),
  ];
}

/** What layers are made of: norms and products with the weights of layer `i`. */
function parts(p: ProgramInputs, bucket: number, i: number) {
  const { spec, variant, matrices, buffers: b } = p;
  const rows = { variant, matrices, bucket, step: b.step, countWord: STEP_NUM_ROWS };
  return {
    rows,
    norm: (role: TensorRole, input: GPUBuffer, out: GPUBuffer, accumulate = false) =>
      rmsNorm({
        ...rows,
        label: `layer ${i} ${role}`,
        width: spec.hiddenSize,
        eps: spec.normEps,
        offset: spec.normOffset,
        gather: null,
        input,
        weight: p.weights.get(role, i).buffer,
        out,
        accumulate,
      }),
    product: (role: TensorRole, bias: TensorRole | null, input: GPUBuffer, out: GPUBuffer, accumulate: boolean) =>
      operands(p.weights.parts(role, i)).map((operand) =>
        matmul({
          ...rows,
          ...operand,
          label: `layer ${i} ${role}`,
          input,
          out,
          ...(bias && { bias: p.weights.get(bias, i).buffer }),
          accumulate,
        }),
      ),
  };
}

function dense(p: ProgramInputs, stepRows: StepRows, i: number, out: GPUBuffer, accumulate: boolean): KernelCall[] {
  const { spec, buffers: b } = p;
  const { rows, product } = parts(p, stepRows.bucket, i);
  const gates = hasLora(stepRows, 'gateUp')
    ? loraGateUp(p, stepRows, i)
    : operands(p.weights.parts('gateUp', i)).map((operand) =>
        gateUp({
          ...rows,
          ...operand,
          label: `layer ${i} gateUp`,
          activation: spec.activation,
          input: b.normed,
          out: b.gated,
        }),
      );
  return [
    ...gates,
    ...product('down', null, b.gated, out, accumulate),
    ...loraCalls(p, stepRows, 'down', i, b.gated, out),
  ];
}

function sparse(
  p: ProgramInputs,
  bucket: number,
  i: number,
  experts: ExpertsSpec,
  out: GPUBuffer,
  accumulate: boolean,
): KernelCall[] {
  const { spec, buffers: b } = p;
  const { rows, product } = parts(p, bucket, i);
  const { perToken } = experts;
  const chosen = { perToken, chosen: b.chosen };
  return [
    ...product('router', null, b.normed, b.routerLogits, false),
    routeExperts({
      ...rows,
      label: `layer ${i} route`,
      experts: experts.count,
      perToken,
      normalized: experts.normalized,
      logits: b.routerLogits,
      chosen: b.chosen,
    }),
    ...operands(p.weights.parts('expertGateUp', i)).map((operand) =>
      expertGateUp({
        ...rows,
        ...operand,
        ...chosen,
        label: `layer ${i} expertGateUp`,
        activation: spec.activation,
        input: b.normed,
        out: b.gated,
      }),
    ),
    ...operands(p.weights.parts('expertDown', i)).map((operand) =>
      expertDown({ ...rows, ...operand, ...chosen, label: `layer ${i} expertDown`, input: b.gated, out, accumulate }),
    ),
  ];
}
