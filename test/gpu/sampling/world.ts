import type { StopRules } from '../../../src/engine/constraint.ts';
import type { KernelCall } from '../../../src/engine/gpu/kernel.ts';
import { accept } from '../../../src/engine/kernels/accept.ts';
import { adjustLogits } from '../../../src/engine/kernels/adjust-logits.ts';
import { begin } from '../../../src/engine/kernels/begin.ts';
import { draft } from '../../../src/engine/kernels/draft.ts';
import { logprobs } from '../../../src/engine/kernels/logprobs.ts';
import { maskLogits } from '../../../src/engine/kernels/mask-logits.ts';
import { sample, sampleScratchBytes } from '../../../src/engine/kernels/sample.ts';
import { slotCounts } from '../../../src/engine/kernels/slot-counts.ts';
import type { KernelVariant } from '../../../src/engine/kernels/variant.ts';
import { packBias, packSlot } from '../../../src/engine/slot.ts';
import * as T from '../../../src/engine/tables.ts';
import { GREEDY, MAX_LOGIT_BIAS, MAX_TOP_LOGPROBS, type SamplingParams } from '../../../src/protocol/sampling.ts';
import type { Bench } from '../dawn.ts';

export interface SlotSpec {
  readonly prompt: readonly number[];
  readonly generated?: readonly number[];
  readonly sampling?: Partial<SamplingParams>;
  readonly choice?: number;
  /** Default: those of `sampling`. */
  readonly stops?: StopRules;
  /** Default: prompt + maxTokens. */
  readonly maxLength?: number;
}

export interface RowSpec {
  readonly slot: number;
  /** Default: derived on the GPU, as in decode. */
  readonly position?: number;
  /** Its number where the row is for a draft; such rows follow the slot's own. */
  readonly draft?: number;
  /** Default: LOGIT_SAMPLE; null for a row without logits. */
  readonly kind?: number | null;
  readonly logits?: ArrayLike<number>;
  /** Ids that the slot's grammar allows; the kind has to say that it is masked. */
  readonly allowed?: readonly number[];
}

export interface StepSpec {
  readonly rows: readonly RowSpec[];
  readonly admitted?: readonly number[];
  readonly deltas?: readonly (readonly [slot: number, index: number, block: number])[];
  /** Rows and logit rows dispatched; default: as many as there are. */
  readonly bucket?: number;
  /** Tokens that drafts look up. */
  readonly lookup?: { readonly min?: number; readonly max?: number };
}

const LOOKUP = { min: 1, max: 3 };

export interface SlotState {
  readonly length: number;
  readonly done: boolean;
  readonly tokens: number[];
  readonly counts: Uint32Array;
}

/** The tables of an engine in miniature, on which the step and sampling kernels run as the runner dispatches them. */
export class World {
  readonly sizes: T.TableSizes;
  readonly buffers;

  constructor(
    readonly bench: Bench,
    readonly variant: KernelVariant,
    vocabSize: number,
    sizes: Partial<T.TableSizes> = {},
  ) {
    this.sizes = {
      maxRows: 40,
      maxLogitRows: 40,
      maxDeltas: 300,
      maxSlots: 40,
      maxLen: 64,
      maxBlocksPerSeq: 8,
      vocabSize,
      ...sizes,
    };
    const s = this.sizes;
    const words = (n: number) => bench.buffer(n * 4);
    this.buffers = {
      step: words(T.stepLayout(s).words),
      slots: words(s.maxSlots * T.SLOT_STRIDE),
      history: words(s.maxSlots * s.maxLen),
      blockTable: words(s.maxSlots * s.maxBlocksPerSeq),
      bias: words(s.maxSlots * MAX_LOGIT_BIAS * 2),
      counts: words(s.maxSlots * s.vocabSize),
      masks: words(s.maxSlots * T.maskWords(s)),
      rows: words(s.maxRows * 4),
      samples: words(s.maxLogitRows),
      logprobs: words(s.maxLogitRows * T.LOGPROB_STRIDE),
      logits: words(s.maxLogitRows * s.vocabSize),
      scores: words(s.maxLogitRows * s.vocabSize),
      scratch: words(sampleScratchBytes(s) / 4),
    };
  }

  /** Writes a slot as the runner does when it admits a sequence. */
  setSlot(slot: number, spec: SlotSpec): void {
    const { queue } = this.bench.gpu.device;
    const { buffers: b, sizes: s } = this;
    const sampling = { ...GREEDY, ...spec.sampling };
    const tokens = [...spec.prompt, ...(spec.generated ?? [])];
    const promptLength = spec.prompt.length;
    const words = packSlot({
      lora: 0,
      choice: spec.choice ?? 0,
      promptLength,
      length: tokens.length,
      maxLength: spec.maxLength ?? promptLength + sampling.maxTokens,
      sampling,
      stops: spec.stops ?? { ids: sampling.stopIds, barred: sampling.stopIds.length, minTokens: sampling.minTokens },
    });
    queue.writeBuffer(b.slots, slot * T.SLOT_STRIDE * 4, words);
    queue.writeBuffer(b.history, slot * s.maxLen * 4, Uint32Array.from(tokens));
    queue.writeBuffer(b.bias, slot * MAX_LOGIT_BIAS * 8, packBias(sampling));
  }

  /** Writes a step's descriptor and logits. */
  write(step: StepSpec): void {
    const { queue } = this.bench.gpu.device;
    const { buffers: b, sizes: s } = this;
    const at = T.stepLayout(s);
    const d = new Uint32Array(at.words);
    const logitRows = logitRowsOf(step);
    d[T.STEP_NUM_ROWS] = step.rows.length;
    d[T.STEP_NUM_LOGIT_ROWS] = logitRows.length;
    d[T.STEP_NUM_DELTAS] = step.deltas?.length ?? 0;
    d[T.STEP_NUM_ADMITTED] = step.admitted?.length ?? 0;
    for (const [r, row] of step.rows.entries())
      d.set([row.slot, row.position ?? T.POSITION_FROM_SLOT - (row.draft ?? 0)], at.rows + 2 * r);
    for (const [i, row] of logitRows.entries()) {
      d.set([step.rows.indexOf(row), row.kind ?? T.LOGIT_SAMPLE], at.logits + 2 * i);
      if (row.allowed) queue.writeBuffer(b.masks, row.slot * T.maskWords(s) * 4, maskOf(row.allowed, s));
      if (row.logits) queue.writeBuffer(b.logits, i * s.vocabSize * 4, Float32Array.from(row.logits));
    }
    d.set(step.deltas?.flat() ?? [], at.deltas);
    d.set(step.admitted ?? [], at.admitted);
    queue.writeBuffer(b.step, 0, d);
  }

  /** The kernels of one step, in the runner's order. */
  calls(step: StepSpec): KernelCall[] {
    const b = this.buffers;
    const rowBucket = step.bucket ?? step.rows.length;
    const logitRows = logitRowsOf(step);
    const shared = { sizes: this.sizes, step: b.step, slots: b.slots };
    const calls = [
      begin({
        ...shared,
        label: 'begin',
        bucket: rowBucket,
        history: b.history,
        blockTable: b.blockTable,
        rows: b.rows,
      }),
    ];
    const drafts = step.rows.some((r) => r.draft !== undefined);
    if (drafts) {
      const { history, rows } = b;
      const lookup = { ...LOOKUP, ...step.lookup };
      calls.push(draft({ ...shared, label: 'draft', variant: this.variant, bucket: rowBucket, lookup, history, rows }));
    }
    if (step.admitted?.length) {
      calls.push(slotCounts({ ...shared, label: 'slot counts', history: b.history, counts: b.counts }));
    }
    if (logitRows.length === 0) return calls;
    const head = { ...shared, bucket: step.bucket ?? logitRows.length, rows: b.rows, variant: this.variant };
    const { bias, counts, logits, scores, history, samples, scratch } = b;
    if (logitRows.some((r) => ((r.kind ?? 0) & T.LOGIT_MASKED) !== 0))
      calls.push(maskLogits({ ...head, label: 'mask', masks: b.masks, logits }));
    calls.push(adjustLogits({ ...head, label: 'adjust', bias, counts, logits, scores }));
    calls.push(sample({ ...head, label: 'sample', commit: !drafts, scores, history, counts, samples, scratch }));
    if (drafts) calls.push(accept({ ...head, label: 'accept', history, counts, samples }));
    if (logitRows.some((r) => ((r.kind ?? 0) & T.LOGIT_LOGPROBS) !== 0)) {
      calls.push(logprobs({ ...head, label: 'logprobs', history, logits, samples, logprobs: b.logprobs, scratch }));
    }
    return calls;
  }

  /** Runs one step; returns what `sample` gave. */
  async step(step: StepSpec): Promise<number[]> {
    this.write(step);
    await this.bench.run(...this.calls(step));
    return [...(await this.words('samples'))].slice(0, logitRowsOf(step).length);
  }

  async words(name: keyof World['buffers']): Promise<Uint32Array<ArrayBuffer>> {
    return new Uint32Array(await this.bench.read(this.buffers[name]));
  }

  async floats(name: keyof World['buffers']): Promise<Float32Array<ArrayBuffer>> {
    return new Float32Array(await this.bench.read(this.buffers[name]));
  }

  async slot(slot: number): Promise<SlotState> {
    const words = (await this.words('slots')).subarray(slot * T.SLOT_STRIDE);
    const length = words[T.SLOT_LENGTH]!;
    const from = slot * this.sizes.maxLen;
    const tokens = [...(await this.words('history')).subarray(from, from + length)];
    const counts = (await this.words('counts')).slice(slot * this.sizes.vocabSize, (slot + 1) * this.sizes.vocabSize);
    return { length, done: words[T.SLOT_DONE] !== 0, tokens, counts };
  }

  /** What `logprobs` gave for logit row `i`, with its `top` best. */
  async logprob(i: number, top: number): Promise<{ logprob: number; rank: number; top: [number, number][] }> {
    const words = (await this.words('logprobs')).slice(i * T.LOGPROB_STRIDE, (i + 1) * T.LOGPROB_STRIDE);
    const floats = new Float32Array(words.buffer);
    return {
      logprob: floats[0]!,
      rank: words[1]!,
      top: Array.from({ length: top }, (_, k) => [words[2 + k]!, floats[2 + MAX_TOP_LOGPROBS + k]!]),
    };
  }
}

function maskOf(allowed: readonly number[], sizes: T.TableSizes): Uint32Array<ArrayBuffer> {
  const mask = new Uint32Array(T.maskWords(sizes));
  for (const id of allowed) mask[id >> 5]! |= 1 << (id & 31);
  return mask;
}

function logitRowsOf(step: StepSpec): RowSpec[] {
  return step.rows.filter((r) => r.kind !== null);
}
