import type { Gpu } from '../gpu/device.ts';
import type { KernelCall } from '../gpu/kernel.ts';
import { adjustLogits } from '../kernels/adjust-logits.ts';
import { attention } from '../kernels/attention.ts';
import { begin } from '../kernels/begin.ts';
import { embed } from '../kernels/embed.ts';
import { gateUp } from '../kernels/gate-up.ts';
import { logprobs } from '../kernels/logprobs.ts';
import { matmul } from '../kernels/matmul.ts';
import { rmsNorm } from '../kernels/rms-norm.ts';
import { ropeKv } from '../kernels/rope-kv.ts';
import { sample } from '../kernels/sample.ts';
import { slotCounts } from '../kernels/slot-counts.ts';
import type { KernelVariant } from '../kernels/variant.ts';
import type { KvDtype, KvLayer } from '../kv/pool.ts';
import { STEP_NUM_LOGIT_ROWS, STEP_NUM_ROWS, stepLayout, type TableSizes } from '../tables.ts';
import type { LoadedWeights } from '../weights/weights.ts';
import type { EngineBuffers } from './activations.ts';
import type { LayerSpec, ModelSpec, TensorRole } from './spec.ts';

/** All that the kernels of a step bind, and the sizes that shape them. */
export interface ProgramInputs {
  readonly gpu: Gpu;
  readonly spec: ModelSpec;
  readonly weights: LoadedWeights;
  readonly sizes: TableSizes;
  readonly buffers: EngineBuffers;
  readonly pool: readonly KvLayer[];
  readonly blockSize: number;
  readonly kvDtype: KvDtype;
  readonly variant: KernelVariant;
  /** Per layer: inverse frequencies of its rotary embedding, f32. */
  readonly invFreq: readonly GPUBuffer[];
}

/** Puts the step's rows and block-table changes in place; `admitting`: also counts the tokens of new slots. */
export function beginCalls(p: ProgramInputs, bucket: number, admitting: boolean): KernelCall[] {
  const { sizes, buffers: b } = p;
  const calls = [
    begin({
      label: 'begin',
      bucket,
      sizes,
      step: b.step,
      slots: b.slots,
      history: b.history,
      blockTable: b.blockTable,
      rows: b.rows,
    }),
  ];
  if (admitting) {
    calls.push(
      slotCounts({ label: 'slot counts', sizes, step: b.step, slots: b.slots, history: b.history, counts: b.counts }),
    );
  }
  return calls;
}

/** The transformer over `bucket` rows, from token ids to the residual stream: the embedding, then one list of calls a layer. */
export function layerCalls(p: ProgramInputs, bucket: number): KernelCall[][] {
  const { spec, buffers: b } = p;
  const table = p.weights.get('embed', null);
  const embedding = embed({
    label: 'embed',
    bucket,
    width: spec.hiddenSize,
    dtype: table.dtype,
    scale: spec.embedScale,
    rows: b.rows,
    weight: table.buffer,
    out: b.hidden,
  });
  return [[embedding], ...spec.layers.map((layer, i) => oneLayer(p, bucket, layer, i))];
}

function oneLayer(p: ProgramInputs, bucket: number, layer: LayerSpec, i: number): KernelCall[] {
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
  const rows = { variant, bucket, step: b.step, countWord: STEP_NUM_ROWS };
  const norm = (role: TensorRole) =>
    rmsNorm({
      ...rows,
      label: `layer ${i} ${role}`,
      width: spec.hiddenSize,
      eps: spec.normEps,
      offset: spec.normOffset,
      gather: null,
      input: b.hidden,
      weight: p.weights.get(role, i).buffer,
      out: b.normed,
    });
  const product = (
    role: TensorRole,
    bias: TensorRole | null,
    input: GPUBuffer,
    out: GPUBuffer,
    accumulate: boolean,
  ) => {
    const w = p.weights.get(role, i);
    return matmul({
      ...rows,
      label: `layer ${i} ${role}`,
      n: w.rows,
      k: w.cols,
      dtype: w.dtype,
      input,
      weight: w.buffer,
      out,
      ...(bias && { bias: p.weights.get(bias, i).buffer }),
      accumulate,
    });
  };
  const gate = p.weights.get('gateUp', i);
  return [
    norm('inputNorm'),
    product('qkv', spec.qkvBias ? 'qkvBias' : null, b.normed, b.qkv, false),
    ropeKv({
      ...heads,
      ...paged,
      label: `layer ${i} rope`,
      variant,
      bucket,
      rotaryDim: layer.rope.rotaryDim,
      qkNorm: spec.qkNorm,
      eps: spec.normEps,
      offset: spec.normOffset,
      qkv: b.qkv,
      norms: p.weights.get(spec.qkNorm ? 'qkNorm' : 'inputNorm', i).buffer,
      invFreq: p.invFreq[i]!,
      q: b.q,
    }),
    attention({
      ...heads,
      ...paged,
      label: `layer ${i} attention`,
      variant,
      bucket,
      scale: spec.attentionScale,
      slidingWindow: layer.slidingWindow ?? 0,
      softcap: 0,
      q: b.q,
      out: b.attended,
    }),
    product('oProj', spec.oBias ? 'oBias' : null, b.attended, b.hidden, true),
    norm('postAttentionNorm'),
    gateUp({
      ...rows,
      label: `layer ${i} gateUp`,
      n: spec.intermediateSize,
      k: gate.cols,
      dtype: gate.dtype,
      activation: spec.activation,
      input: b.normed,
      weight: gate.buffer,
      out: b.gated,
    }),
    product('down', null, b.gated, b.hidden, true),
  ];
}

/** Logits of the step's logit rows, then one sampled token for each row that samples; `bucket` counts logit rows. */
export function headCalls(p: ProgramInputs, bucket: number, withLogprobs: boolean): KernelCall[] {
  const { spec, sizes, variant, buffers: b } = p;
  const logitRows = { variant, bucket, step: b.step, countWord: STEP_NUM_LOGIT_ROWS };
  const head = p.weights.get('lmHead', null);
  const sampling = { bucket, sizes, step: b.step, rows: b.rows, slots: b.slots };
  const calls = [
    rmsNorm({
      ...logitRows,
      label: 'final norm',
      width: spec.hiddenSize,
      eps: spec.normEps,
      offset: spec.normOffset,
      gather: stepLayout(sizes).logits,
      input: b.hidden,
      weight: p.weights.get('finalNorm', null).buffer,
      out: b.headInput,
    }),
    matmul({
      ...logitRows,
      label: 'lm head',
      n: head.rows,
      k: head.cols,
      dtype: head.dtype,
      input: b.headInput,
      weight: head.buffer,
      out: b.logits,
      accumulate: false,
    }),
    adjustLogits({
      ...sampling,
      label: 'adjust logits',
      bias: b.bias,
      counts: b.counts,
      logits: b.logits,
      scores: b.scores,
    }),
    sample({
      ...sampling,
      label: 'sample',
      variant,
      scores: b.scores,
      history: b.history,
      counts: b.counts,
      samples: b.samples,
      scratch: b.scratch,
    }),
  ];
  if (withLogprobs) {
    calls.push(
      logprobs({
        ...sampling,
        label: 'logprobs',
        variant,
        history: b.history,
        logits: b.logits,
        samples: b.samples,
        logprobs: b.logprobs,
        scratch: b.scratch,
      }),
    );
  }
  return calls;
}
