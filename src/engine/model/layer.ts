import type { KernelCall } from '../gpu/kernel.ts';
import { attention } from '../kernels/attention.ts';
import { expertDown, expertGateUp } from '../kernels/experts.ts';
import { gateUp } from '../kernels/gate-up.ts';
import { matmul } from '../kernels/matmul.ts';
import { rmsNorm } from '../kernels/rms-norm.ts';
import { ropeKv } from '../kernels/rope-kv.ts';
import { routeExperts } from '../kernels/route-experts.ts';
import { STEP_NUM_ROWS } from '../tables.ts';
import type { ProgramInputs, StepRows } from './program-inputs.ts';
import type { ExpertsSpec, LayerSpec, TensorRole } from './spec.ts';

/** Layer `i` over the rows of a bucket: attention and MLP, each added to the residual stream. */
export function oneLayer(p: ProgramInputs, { bucket, chunks }: StepRows, layer: LayerSpec, i: number): KernelCall[] {
  const { spec, variant, buffers: b } = p;
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
    ...queryKeyValue(p, bucket, i),
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
      bucket,
      chunks,
      scale: spec.attentionScale,
      slidingWindow: layer.slidingWindow ?? 0,
      softcap: spec.attentionSoftcap,
      q: b.q,
      partials: b.partials,
      out: b.attended,
    }),
    product('oProj', spec.oBias ? 'oBias' : null, b.attended, branch, added),
    ...(spec.outNorms ? [norm('attentionOutNorm', branch, b.hidden, true)] : []),
    norm('mlpNorm', b.hidden, b.normed),
    ...(layer.experts === null
      ? dense(p, bucket, i, branch, added)
      : sparse(p, bucket, i, layer.experts, branch, added)),
    ...(spec.outNorms ? [norm('mlpOutNorm', branch, b.hidden, true)] : []),
  ];
}

/** The product with q, k and v; one dispatch where all are held in one dtype. */
function queryKeyValue(p: ProgramInputs, bucket: number, i: number): KernelCall[] {
  const { spec, variant, buffers: b } = p;
  const parts = p.weights.parts('qkv', i);
  const of = parts.reduce((sum, { rows }) => sum + rows, 0);
  return parts.map((w) =>
    matmul({
      variant,
      bucket,
      step: b.step,
      countWord: STEP_NUM_ROWS,
      label: `layer ${i} qkv`,
      n: w.rows,
      k: w.cols,
      dtype: w.dtype,
      scalesAt: w.scalesAt,
      columns: { first: w.firstRow, of },
      input: b.normed,
      weight: w.buffer,
      out: b.qkv,
      ...(spec.qkvBias && { bias: p.weights.get('qkvBias', i).buffer }),
      accumulate: false,
    }),
  );
}

/** What layers are made of: norms and products with the weights of layer `i`. */
function parts(p: ProgramInputs, bucket: number, i: number) {
  const { spec, variant, buffers: b } = p;
  const rows = { variant, bucket, step: b.step, countWord: STEP_NUM_ROWS };
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
    product: (role: TensorRole, bias: TensorRole | null, input: GPUBuffer, out: GPUBuffer, accumulate: boolean) => {
      const w = p.weights.get(role, i);
      return matmul({
        ...rows,
        label: `layer ${i} ${role}`,
        n: w.rows,
        k: w.cols,
        dtype: w.dtype,
        scalesAt: w.scalesAt,
        input,
        weight: w.buffer,
        out,
        ...(bias && { bias: p.weights.get(bias, i).buffer }),
        accumulate,
      });
    },
  };
}

function dense(p: ProgramInputs, bucket: number, i: number, out: GPUBuffer, accumulate: boolean): KernelCall[] {
  const { spec, buffers: b } = p;
  const { rows, product } = parts(p, bucket, i);
  const gate = p.weights.get('gateUp', i);
  return [
    gateUp({
      ...rows,
      label: `layer ${i} gateUp`,
      n: spec.intermediateSize,
      k: gate.cols,
      dtype: gate.dtype,
      scalesAt: gate.scalesAt,
      activation: spec.activation,
      input: b.normed,
      weight: gate.buffer,
      out: b.gated,
    }),
    product('down', null, b.gated, out, accumulate),
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
  const [up, down] = [p.weights.get('expertGateUp', i), p.weights.get('expertDown', i)];
  const { perToken } = experts;
  return [
    product('router', null, b.normed, b.routerLogits, false),
    routeExperts({
      ...rows,
      label: `layer ${i} route`,
      experts: experts.count,
      perToken,
      normalized: experts.normalized,
      logits: b.routerLogits,
      chosen: b.chosen,
    }),
    expertGateUp({
      ...rows,
      label: `layer ${i} expertGateUp`,
      n: experts.intermediateSize,
      k: up.cols,
      dtype: up.dtype,
      scalesAt: up.scalesAt,
      activation: spec.activation,
      input: b.normed,
      weight: up.buffer,
      out: b.gated,
      perToken,
      chosen: b.chosen,
    }),
    expertDown({
      ...rows,
      label: `layer ${i} expertDown`,
      n: spec.hiddenSize,
      k: down.cols,
      dtype: down.dtype,
      scalesAt: down.scalesAt,
      input: b.gated,
      weight: down.buffer,
      out,
      perToken,
      chosen: b.chosen,
      accumulate,
    }),
  ];
}
