import type { KernelCall } from '../gpu/kernel.ts';
import { accept } from '../kernels/accept.ts';
import { adjustLogits } from '../kernels/adjust-logits.ts';
import { begin } from '../kernels/begin.ts';
import { draft } from '../kernels/draft.ts';
import { embed } from '../kernels/embed.ts';
import { logprobs } from '../kernels/logprobs.ts';
import { maskLogits } from '../kernels/mask-logits.ts';
import { matmul } from '../kernels/matmul.ts';
import { pool } from '../kernels/pool.ts';
import { rmsNorm } from '../kernels/rms-norm.ts';
import { sample } from '../kernels/sample.ts';
import { slotCounts } from '../kernels/slot-counts.ts';
import { softcapLogits } from '../kernels/softcap-logits.ts';
import { STEP_NUM_LOGIT_ROWS, STEP_NUM_ROWS, stepLayout } from '../tables.ts';
import { oneLayer } from './layer.ts';
import { operands } from './operand.ts';
import type { ProgramInputs, StepRows } from './program-inputs.ts';

/** Puts the step's rows and block-table changes in place; `admitting`: also counts the tokens of new slots; `drafts`: rows may hold some. */
export function beginCalls(p: ProgramInputs, bucket: number, admitting: boolean, drafts: boolean): KernelCall[] {
  const { sizes, speculation, variant, buffers: b } = p;
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
  if (drafts && speculation !== null) {
    const { lookup } = speculation;
    const { step, slots, history, rows } = b;
    calls.push(draft({ label: 'draft', variant, bucket, sizes, lookup, step, slots, history, rows }));
  }
  if (admitting) {
    calls.push(
      slotCounts({ label: 'slot counts', sizes, step: b.step, slots: b.slots, history: b.history, counts: b.counts }),
    );
  }
  return calls;
}

/** The transformer over the rows of a bucket, from token ids to the residual stream: the embedding, then one list of calls a layer. */
export function layerCalls(p: ProgramInputs, rows: StepRows): KernelCall[][] {
  const { spec, buffers: b } = p;
  const embedding = p.weights.parts('embed', null).map((table) =>
    embed({
      label: 'embed',
      bucket: rows.bucket,
      tokens: { first: table.firstOutput, count: table.outputs },
      width: spec.hiddenSize,
      dtype: table.dtype,
      scalesAt: table.scalesAt,
      scale: spec.embedScale,
      rows: b.rows,
      weight: table.buffer,
      out: b.hidden,
    }),
  );
  return [embedding, ...spec.layers.map((layer, i) => oneLayer(p, rows, layer, i))];
}

/** What some logit rows of a step want beside a sampled token. */
export interface HeadWishes {
  readonly logprobs: boolean;
  readonly masks: boolean;
  /** They may be of rows that hold drafts. */
  readonly drafts: boolean;
}

/** Logits of the step's logit rows, then one sampled token for each row that samples; `bucket` counts logit rows. */
export function headCalls(p: ProgramInputs, bucket: number, wishes: HeadWishes): KernelCall[] {
  const { spec, sizes, variant, matrices, buffers: b } = p;
  const logitRows = { variant, matrices, bucket, step: b.step, countWord: STEP_NUM_LOGIT_ROWS };
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
      accumulate: false,
    }),
    ...operands(p.weights.parts('lmHead', null)).map((operand) =>
      matmul({ ...logitRows, ...operand, label: 'lm head', input: b.headInput, out: b.logits, accumulate: false }),
    ),
    ...(spec.logitSoftcap === 0
      ? []
      : [
          softcapLogits({
            label: 'softcap logits',
            bucket,
            width: spec.vocabSize,
            cap: spec.logitSoftcap,
            step: b.step,
            countWord: STEP_NUM_LOGIT_ROWS,
            logits: b.logits,
          }),
        ]),
    ...(wishes.masks
      ? [
          maskLogits({
            label: 'mask logits',
            bucket,
            sizes,
            step: b.step,
            rows: b.rows,
            masks: b.masks,
            logits: b.logits,
          }),
        ]
      : []),
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
      commit: !wishes.drafts,
      scores: b.scores,
      history: b.history,
      counts: b.counts,
      samples: b.samples,
      scratch: b.scratch,
    }),
  ];
  if (wishes.drafts) {
    calls.push(accept({ ...sampling, label: 'accept', history: b.history, counts: b.counts, samples: b.samples }));
  }
  if (wishes.logprobs) {
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

/** The last norm of all rows, pooled for each logit row into `headInput`. `rows` and `logitRows`: buckets of the step's rows and logit rows. */
export function poolCalls(p: ProgramInputs, rows: number, logitRows: number): KernelCall[] {
  const { spec, sizes, variant, buffers: b } = p;
  const width = spec.hiddenSize;
  return [
    rmsNorm({
      label: 'final norm',
      variant,
      bucket: rows,
      width,
      eps: spec.normEps,
      offset: spec.normOffset,
      step: b.step,
      countWord: STEP_NUM_ROWS,
      gather: null,
      input: b.hidden,
      weight: p.weights.get('finalNorm', null).buffer,
      out: b.normed,
      accumulate: false,
    }),
    pool({
      label: 'pool',
      bucket: logitRows,
      width,
      sizes,
      step: b.step,
      rows: b.rows,
      normed: b.normed,
      sums: b.sums,
      out: b.headInput,
    }),
  ];
}
