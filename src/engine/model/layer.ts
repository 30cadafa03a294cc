import type { KernelCall } from '../gpu/kernel.ts';
import { attention } from '../kernels/attention.ts';
import { expertDown, expertGateUp } from '../kernels/experts.ts';
import { gateUp } from '../kernels/gate-up.ts';
import { matmul } from '../kernels/matmul.ts';
import { normsInput, type ProductArgs } from '../kernels/product.ts';
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
  const { norm, normed, product } = parts(p, bucket, i);
  const stream = normed('inputNorm', hasLora(rows, 'qkv'));
  // Where what a branch gives is normed first, it is added to the residual stream by the norm.
  const branch = spec.outNorms ? b.branch : b.hidden;
  const added = !spec.outNorms;
  return [
    ...stream.calls,
    ...product('qkv', spec.qkvBias ? 'qkvBias' : null, stream.input, b.qkv, false),
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
    ...product('oProj', spec.oBias ? 'oBias' : null, { input: b.attended }, branch, added),
    ...loraCalls(p, rows, 'oProj', i, b.attended, branch),
    ...(spec.outNorms ? [norm('attentionOutNorm', branch, b.hidden, true)] : []),
    ...(layer.experts === null ? dense(p, rows, i, branch, added) : sparse(p, bucket, i, layer.experts, branch, added)),
    ...(spec.outNorms ? [norm('mlpOutNorm', branch, b.hidden, true)] : []),
  ];
}

/** What a product reads: rows as they are, or normed on their way in. */
type ProductInput = Pick<ProductArgs, 'input' | 'norm'>;

/** What layers are made of: norms and products with the weights of layer `i`. */
function parts(p: ProgramInputs, bucket: number, i: number) {
  const { spec, variant, matrices, buffers: b } = p;
  const rows = { variant, matrices, bucket, step: b.step, countWord: STEP_NUM_ROWS };
  const { normEps: eps, normOffset: offset } = spec;
  const norm = (role: TensorRole, input: GPUBuffer, out: GPUBuffer, accumulate = false) =>
    rmsNorm({
      ...rows,
      label: `layer ${i} ${role}`,
      width: spec.hiddenSize,
      eps,
      offset,
      gather: null,
      input,
      weight: p.weights.get(role, i).buffer,
      out,
      accumulate,
    });
  return {
    rows,
    norm,
    /** The residual stream normed for products: by each of them where it can and (not `apart`) nobody else reads it, else by a kernel before them. */
    normed: (
      role: TensorRole,
      apart: boolean,
    ): { readonly calls: readonly KernelCall[]; readonly input: ProductInput } => {
      if (apart || !normsInput({ variant, bucket, k: spec.hiddenSize })) {
        return { calls: [norm(role, b.hidden, b.normed)], input: { input: b.normed } };
      }
      const weight = p.weights.get(role, i).buffer;
      return { calls: [], input: { input: b.hidden, norm: { weight, eps, offset } } };
    },
    product: (role: TensorRole, bias: TensorRole | null, input: ProductInput, out: GPUBuffer, accumulate: boolean) =>
      operands(p.weights.parts(role, i)).map((operand) =>
        matmul({
          ...rows,
          ...operand,
          ...input,
          label: `layer ${i} ${role}`,
          out,
          ...(bias && { bias: p.weights.get(bias, i).buffer }),
          accumulate,
        }),
      ),
  };
}

function dense(p: ProgramInputs, stepRows: StepRows, i: number, out: GPUBuffer, accumulate: boolean): KernelCall[] {
  const { spec, buffers: b } = p;
  const { rows, normed, product } = parts(p, stepRows.bucket, i);
  const stream = normed('mlpNorm', hasLora(stepRows, 'gateUp'));
  const gates = hasLora(stepRows, 'gateUp')
    ? loraGateUp(p, stepRows, i)
    : operands(p.weights.parts('gateUp', i)).map((operand) =>
        gateUp({
          ...rows,
          ...operand,
          label: `layer ${i} gateUp`,
          activation: spec.activation,
          ...stream.input,
          out: b.gated,
        }),
      );
  return [
    ...stream.calls,
    ...gates,
    ...product('down', null, { input: b.gated }, out, accumulate),
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
  const { rows, norm, product } = parts(p, bucket, i);
  const { perToken } = experts;
  const chosen = { perToken, chosen: b.chosen };
  return [
    norm('mlpNorm', b.hidden, b.normed),
    ...product('router', null, { input: b.normed }, b.routerLogits, false),
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
