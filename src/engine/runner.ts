import type { TokenLogprob } from '../protocol/generate.ts';
import { MAX_LOGIT_BIAS, MAX_TOP_LOGPROBS } from '../protocol/sampling.ts';
import { EngineError } from './api.ts';
import { bucketOf } from './bucket.ts';
import type { PreparedCall } from './gpu/kernel.ts';
import { encodeCalls, type Pipelines } from './gpu/pipelines.ts';
import { ReadbackRing, readBuffer } from './gpu/readback.ts';
import { blockBytes } from './kv/pool.ts';
import { beginCalls, type HeadWishes, headCalls, layerCalls, poolCalls } from './model/program.ts';
import type { ProgramInputs, StepRows } from './model/program-inputs.ts';
import type { StepPlan } from './scheduler.ts';
import { packBias, packSlot } from './slot.ts';
import * as T from './tables.ts';

/** What the GPU gave back for one step. */
export interface StepResult {
  /** One id per logit row; `NO_TOKEN` where none was sampled, `REJECTED` after a draft that was wrong. None of an engine that pools. */
  readonly samples: Uint32Array;
  /** [hidden]: what pool.wgsl gave for logit row `i`; only of an engine that pools. */
  pooled(i: number): Float32Array;
  /** Logprobs of logit row `i` with its `top` best; only for rows that asked. */
  logprob(i: number, token: number, top: number): TokenLogprob;
}

/** A step on its way: `result` resolves when it was computed. */
export interface SubmittedStep {
  readonly result: Promise<StepResult>;
  readonly submits: number;
  readonly dispatches: number;
  /** Bytes that the step moves: what the descriptors of its dispatches count, and K and V at the rows' own lengths. */
  readonly bytes: number;
}

export interface RunnerOptions {
  readonly stepsInFlight: number;
  /** Encode every step anew, without prepared programs. */
  readonly enforceEager: boolean;
}

/** Ids that are masked out have no finite logprob, and JSON no other numbers: vLLM's stand-in. */
const LEAST_LOGPROB = -9999;
const PLAIN: HeadWishes = { logprobs: false, masks: false, drafts: false };
/** Rows beyond which a step is cut into several submissions, so that none holds the GPU for long. */
const NEVER = Number.POSITIVE_INFINITY;

type Programs = Map<string, Promise<PreparedCall[][]>>;

/**
 * Turns step plans into GPU work: one descriptor write, one encoder, prepared programs, one readback a step.
 * Programs are prepared once per bucket of rows (powers of two) and kind of rows; all that varies from step to step lies in buffers.
 */
export class Runner {
  private readonly ring: ReadbackRing;
  private readonly descriptor: Uint32Array<ArrayBuffer>;
  private readonly programs: Programs = new Map();
  /** Those of rows with adapters, whose buffers they are bound to. */
  private readonly loraPrograms: Programs = new Map();
  private rowsPerSubmit = NEVER;
  /** Of the adapters' buffers that `loraPrograms` were prepared with. */
  private loraGeneration = 0;
  private pulse: GPUBuffer | null = null;

  constructor(
    readonly inputs: ProgramInputs,
    private readonly pipelines: Pipelines,
    private readonly options: RunnerOptions,
  ) {
    const { sizes, spec, gpu } = inputs;
    const rowWords = spec.pools ? spec.hiddenSize : 1 + T.LOGPROB_STRIDE;
    this.ring = new ReadbackRing(gpu.device, options.stepsInFlight + 1, sizes.maxLogitRows * rowWords);
    this.descriptor = new Uint32Array(T.stepLayout(sizes).words);
  }

  /** Steps of more rows are cut into ceil(rows / this) submissions at layer borders. Set after the warm-up measured the adapter. */
  limitSubmission(rows: number): void {
    this.rowsPerSubmit = Math.max(1, rows);
  }

  /** Submits one step. Rejects when a shader does not compile; a lost device shows itself in `result`. */
  async submit(plan: StepPlan): Promise<SubmittedStep> {
    const wants = (kind: number) => plan.logitRows.some((r) => (r.kind & kind) !== 0);
    const wishes = {
      logprobs: wants(T.LOGIT_LOGPROBS),
      masks: wants(T.LOGIT_MASKED),
      drafts: plan.numDraftRows > 0,
    };
    const segments = await this.segments(this.stepRows(plan), plan.logitRows.length, plan.admitted.length > 0, wishes);
    const { queue } = this.inputs.gpu.device;
    this.uploadAdmitted(plan);
    this.uploadEmbeds(plan);
    this.uploadMasks(plan);
    queue.writeBuffer(this.inputs.buffers.step, 0, this.descriptor, 0, this.describe(plan));

    const cuts = Math.min(segments.length, Math.max(1, Math.ceil(plan.numRows / this.rowsPerSubmit)));
    for (let cut = 0; cut < cuts - 1; cut++) {
      queue.submit([this.encode(slice(segments, cut, cuts)).finish()]);
    }
    const last = this.encode(slice(segments, cuts - 1, cuts));
    const logitRows = plan.logitRows.length;
    const readback = this.ring.record(last, this.results(logitRows, wishes));
    queue.submit([last.finish()]);
    const { spec } = this.inputs;
    return {
      result: readback
        .read()
        .then((words) => (spec.pools ? pooledResult(words, spec.hiddenSize) : stepResult(words, logitRows))),
      submits: cuts,
      dispatches: segments.reduce((sum, calls) => sum + calls.length, 0),
      bytes: segments.flat().reduce((sum, call) => sum + call.bytes, 0) + keysRead(plan) * keyBytes(this.inputs),
    };
  }

  /** Runs a step only up to the end of a layer; returns the residual stream, [row][hidden]. For the self-test. */
  async residualAfterLayer(plan: StepPlan, layer: number): Promise<Float32Array> {
    const { gpu, buffers } = this.inputs;
    const segments = await this.segments(this.stepRows(plan), 0, true, PLAIN);
    this.uploadAdmitted(plan);
    gpu.device.queue.writeBuffer(buffers.step, 0, this.descriptor, 0, this.describe(plan));
    const beginAndEmbed = 2;
    gpu.device.queue.submit([this.encode(segments.slice(0, beginAndEmbed + layer + 1).flat()).finish()]);
    return new Float32Array(await readBuffer(gpu.device, buffers.hidden));
  }

  /** Compiles what steps of `rows` rows and `logitRows` logit rows need, so that the first such step does not wait for it. */
  async prepare(rows: number, logitRows: number): Promise<void> {
    await this.segments({ bucket: bucketOf(rows), chunks: true, loras: 0 }, logitRows, true, PLAIN);
  }

  /** Resolves when the GPU has done work submitted now. On a lost device it may resolve all the same. */
  async roundtrip(): Promise<void> {
    const { device } = this.inputs.gpu;
    this.pulse ??= device.createBuffer({ label: 'pulse', size: 4, usage: 0x08 /* COPY_DST */ });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(this.inputs.buffers.samples, 0, this.pulse, 0, 4);
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
  }

  destroy(): void {
    this.ring.destroy();
    this.pulse?.destroy();
  }

  private async segments(
    rows: StepRows,
    logitRows: number,
    admitting: boolean,
    wishes: HeadWishes,
  ): Promise<PreparedCall[][]> {
    const p = this.inputs;
    const { bucket, chunks, loras } = rows;
    const head = bucketOf(logitRows);
    const headProgram = () =>
      p.spec.pools
        ? this.program(`pool ${bucket} ${head}`, () => [poolCalls(p, bucket, head)])
        : this.program(`head ${head} ${Object.values(wishes)}`, () => [headCalls(p, head, wishes)]);
    const [start, layers, end] = await Promise.all([
      this.program(`begin ${bucket} ${admitting} ${wishes.drafts}`, () => [
        beginCalls(p, bucket, admitting, wishes.drafts),
      ]),
      this.program(
        `layers ${bucket} ${chunks} ${loras}`,
        () => layerCalls(p, rows),
        loras > 0 ? this.loraPrograms : this.programs,
      ),
      logitRows === 0 ? [] : headProgram(),
    ]);
    return [...start, ...layers, ...end];
  }

  /** What comes back of a step; of one without logit rows a word, to know when it was computed. */
  private results(logitRows: number, wishes: HeadWishes): { source: GPUBuffer; words: number }[] {
    const { buffers, spec } = this.inputs;
    if (logitRows === 0) return [{ source: buffers.samples, words: 1 }];
    if (spec.pools) return [{ source: buffers.headInput, words: logitRows * spec.hiddenSize }];
    const samples = { source: buffers.samples, words: logitRows };
    if (!wishes.logprobs) return [samples];
    return [samples, { source: buffers.logprobs, words: logitRows * T.LOGPROB_STRIDE }];
  }

  private stepRows({ rows, numRows, numDecodeRows }: StepPlan): StepRows {
    const { loras } = this.inputs;
    const any = rows.some(({ sequence }) => sequence.lora !== null);
    if (loras && any && loras.generation !== this.loraGeneration) {
      this.loraGeneration = loras.generation;
      this.loraPrograms.clear();
    }
    return { bucket: bucketOf(numRows), chunks: numDecodeRows < numRows, loras: any ? (loras?.sites ?? 0) : 0 };
  }

  private program(
    key: string,
    calls: () => ReturnType<typeof layerCalls>,
    kept = this.programs,
  ): Promise<PreparedCall[][]> {
    const known = kept.get(key);
    if (known) return known;
    const program = Promise.all(calls().map((segment) => this.pipelines.prepare(segment)));
    if (!this.options.enforceEager) kept.set(key, program);
    return program;
  }

  private encode(calls: readonly PreparedCall[]): GPUCommandEncoder {
    const encoder = this.inputs.gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encodeCalls(pass, calls);
    pass.end();
    return encoder;
  }

  private uploadAdmitted(plan: StepPlan): void {
    const { buffers, sizes, gpu } = this.inputs;
    for (const { sequence, slot } of plan.admitted) {
      const { sampling, stops, choice, promptLength, maxLength, tokens, lora } = sequence;
      const shape = { choice, promptLength, length: tokens.length, maxLength };
      const words = packSlot({ ...shape, sampling, stops, lora: lora === null ? 0 : lora.place + 1 });
      gpu.device.queue.writeBuffer(buffers.slots, slot * T.SLOT_STRIDE * 4, words);
      gpu.device.queue.writeBuffer(buffers.history, slot * sizes.maxLen * 4, Uint32Array.from(tokens));
      if (sampling.logitBias.length > 0) {
        gpu.device.queue.writeBuffer(buffers.bias, slot * MAX_LOGIT_BIAS * 8, packBias(sampling));
      }
    }
  }

  /** Rows whose embeddings the request brought: no table of the model has their id, so that what is written here stays. */
  private uploadEmbeds(plan: StepPlan): void {
    const { buffers, spec, gpu } = this.inputs;
    const width = spec.hiddenSize;
    for (const { sequence, firstRow, start, count } of plan.rows) {
      const { embeds, promptLength } = sequence;
      const rows = Math.min(count, promptLength - start);
      if (embeds === null || rows <= 0) continue;
      gpu.device.queue.writeBuffer(buffers.hidden, firstRow * width * 4, embeds, start * width, rows * width);
    }
  }

  private uploadMasks({ masks }: StepPlan): void {
    const { buffers, sizes, gpu } = this.inputs;
    const words = T.maskWords(sizes);
    for (const { slot, mask } of masks) {
      if (mask.length !== words)
        throw new EngineError('internal', `a grammar mask has ${mask.length} words, the vocabulary needs ${words}`);
      gpu.device.queue.writeBuffer(buffers.masks, slot * words * 4, mask);
    }
  }

  /** Fills the step descriptor; returns how many of its words are in use. */
  private describe(plan: StepPlan): number {
    const d = this.descriptor;
    const at = T.stepLayout(this.inputs.sizes);
    d[T.STEP_NUM_ROWS] = plan.numRows;
    d[T.STEP_NUM_LOGIT_ROWS] = plan.logitRows.length;
    d[T.STEP_NUM_DELTAS] = plan.deltas.length;
    d[T.STEP_NUM_ADMITTED] = plan.admitted.length;
    for (const [i, { slot }] of plan.admitted.entries()) d[at.admitted + i] = slot;
    for (const [i, { row, kind }] of plan.logitRows.entries()) {
      d[at.logits + 2 * i] = row;
      d[at.logits + 2 * i + 1] = kind;
    }
    let row = at.rows;
    for (const { slot, start, count, decode } of plan.rows) {
      for (let i = 0; i < count; i++) {
        d[row++] = slot;
        d[row++] = decode ? T.POSITION_FROM_SLOT - i : start + i;
      }
    }
    let delta = at.deltas;
    for (const { slot, index, block } of plan.deltas) {
      d[delta++] = slot;
      d[delta++] = index;
      d[delta++] = block;
    }
    return delta;
  }
}

/** Positions that the step's attention reads, summed over its rows; windows are not looked at. */
function keysRead(plan: StepPlan): number {
  return plan.rows.reduce((sum, { start, count }) => sum + count * start + (count * (count + 1)) / 2, 0);
}

/** Bytes of the K and V of one position in all layers. */
function keyBytes({ spec, blockSize, kvDtype }: ProgramInputs): number {
  return blockBytes({ spec, blockSize, dtype: kvDtype }) / blockSize;
}

function slice(segments: readonly PreparedCall[][], cut: number, cuts: number): PreparedCall[] {
  const from = Math.floor((cut * segments.length) / cuts);
  const to = Math.floor(((cut + 1) * segments.length) / cuts);
  return segments.slice(from, to).flat();
}

function pooledResult(words: Uint32Array, hidden: number): StepResult {
  const floats = new Float32Array(words.buffer);
  return {
    samples: new Uint32Array(Math.floor(words.length / hidden)).fill(T.NO_TOKEN),
    pooled: (i) => floats.subarray(i * hidden, (i + 1) * hidden),
    logprob() {
      throw new EngineError('internal', 'an engine that pools has no logprobs');
    },
  };
}

function stepResult(words: Uint32Array, logitRows: number): StepResult {
  const floats = new Float32Array(words.buffer);
  return {
    samples: words.subarray(0, logitRows),
    pooled() {
      throw new EngineError('internal', 'this engine does not pool');
    },
    logprob(i, token, top) {
      const at = logitRows + i * T.LOGPROB_STRIDE;
      const ids = at + 2;
      const values = ids + MAX_TOP_LOGPROBS;
      return {
        token,
        logprob: Math.max(floats[at]!, LEAST_LOGPROB),
        rank: words[at + 1]!,
        top: Array.from(
          { length: top },
          (_, k) => [words[ids + k]!, Math.max(floats[values + k]!, LEAST_LOGPROB)] as [number, number],
        ),
      };
    },
  };
}
