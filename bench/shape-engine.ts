import type { Speculation } from '../src/config/speculative.ts';
import type { EngineInfo } from '../src/engine/api.ts';
import { bucketOf } from '../src/engine/bucket.ts';
import { StepLoop } from '../src/engine/engine.ts';
import { Pipelines } from '../src/engine/gpu/pipelines.ts';
import type { FloatDtype } from '../src/engine/kernels/dtype.ts';
import { chooseMatrices, chooseVariant } from '../src/engine/kernels/variant.ts';
import { BlockManager } from '../src/engine/kv/block-manager.ts';
import { createPool, layerBlockBytes } from '../src/engine/kv/pool.ts';
import { createEngineBuffers, engineBufferBytes } from '../src/engine/model/activations.ts';
import type { ProgramInputs } from '../src/engine/model/program-inputs.ts';
import { inverseFrequencies } from '../src/engine/model/rope.ts';
import type { ModelSpec } from '../src/engine/model/spec.ts';
import { Runner } from '../src/engine/runner.ts';
import { Scheduler } from '../src/engine/scheduler.ts';
import { Sequence } from '../src/engine/sequence.ts';
import type { TableSizes } from '../src/engine/tables.ts';
import type { LoadedWeights } from '../src/engine/weights/loaded.ts';
import { createBlockHasher } from '../src/protocol/hashes.ts';
import { GREEDY, type SamplingParams } from '../src/protocol/sampling.ts';
import type { KernelRunner } from '../test/gpu/kernel-runner.ts';

const BLOCK_SIZE = 16;
const STEPS_IN_FLIGHT = 3;
/** Rows of a prefill step. */
const STEP_ROWS = 2048;

/** Says of every prompt that all of it but the last token is cached: a context of any length without computing it. */
class FilledBlocks extends BlockManager {
  filled = false;

  override match(sequence: Sequence): number[] {
    if (!this.filled) return [];
    const wish = { request: 'filled', prompt: sequence.tokens, choices: [], sampling: { ...GREEDY, maxTokens: 1 } };
    const holder = new Sequence(wish, 0, [], sequence.tokens.length + 1);
    const whole = Math.floor((sequence.tokens.length - 1) / this.blockSize);
    if (!this.grow(holder, whole * this.blockSize)) throw new Error('the pool is too small for this point');
    const blocks = [...holder.blocks];
    // Freed at once: whoever matched takes them before anybody else can.
    this.free(holder);
    return blocks;
  }
}

/** An engine of generated weights that can begin at any context. */
export interface ShapeEngine {
  readonly program: ProgramInputs;
  readonly pipelines: Pipelines;
  readonly loop: StepLoop;
  /** Runs a batch of prompts of `context` tokens to `maxTokens` more each; `filled`: the context counts as cached. Seconds. */
  run(batch: number, context: number, maxTokens: number, filled: boolean, sampling?: SamplingParams): Promise<number>;
}

/** How many sequences of how many tokens an engine holds; `tokens`: K and V of so many in all, where not every sequence is that long at once. */
export interface ShapeSizes {
  readonly batch: number;
  readonly context: number;
  readonly tokens?: number;
}

function tableSizes(spec: ModelSpec, batch: number, context: number, drafts: number): TableSizes {
  const maxBlocksPerSeq = Math.ceil(context / BLOCK_SIZE);
  return {
    maxRows: bucketOf(Math.max(STEP_ROWS, batch)),
    maxLogitRows: bucketOf(Math.max(batch + drafts * batch, 64)),
    maxDeltas: batch * maxBlocksPerSeq,
    maxSlots: batch,
    maxLen: context,
    maxBlocksPerSeq,
    vocabSize: spec.vocabSize,
  };
}

/** Bytes of tables, activations, K and V of such an engine; its weights come on top. */
export function workingBytes(spec: ModelSpec, kvDtype: FloatDtype, software: boolean, sizes: ShapeSizes): number {
  const { batch, context, tokens = batch * context } = sizes;
  const blocks = Math.ceil(tokens / BLOCK_SIZE) + batch + 1;
  const kv = blocks * spec.layers.length * layerBlockBytes({ spec, blockSize: BLOCK_SIZE, dtype: kvDtype });
  return engineBufferBytes(spec, tableSizes(spec, batch, context, 0), chooseVariant(software)) + kv;
}

export async function shapeEngine(
  bench: KernelRunner,
  spec: ModelSpec,
  weights: LoadedWeights,
  kvDtype: FloatDtype,
  {
    batch,
    context,
    tokens = batch * context,
    batchInvariant = true,
    speculation = null,
  }: ShapeSizes & {
    readonly batchInvariant?: boolean;
    readonly speculation?: Speculation | null;
  },
): Promise<ShapeEngine> {
  const { gpu } = bench;
  const { device } = gpu;
  const sizes = tableSizes(spec, batch, context, speculation?.drafts ?? 0);
  const variant = chooseVariant(gpu.adapter.software);
  const matrices = chooseMatrices(gpu.matrices, batchInvariant);
  const totalBlocks = Math.ceil(tokens / BLOCK_SIZE) + batch + 1;
  const program: ProgramInputs = {
    gpu,
    spec,
    weights,
    sizes,
    buffers: await createEngineBuffers(device, spec, sizes, variant),
    pool: await createPool(device, { spec, blockSize: BLOCK_SIZE, dtype: kvDtype }, totalBlocks),
    invFreq: spec.layers.map(({ rope }) => bench.buffer(Float32Array.from(inverseFrequencies(rope)))),
    loras: null,
    blockSize: BLOCK_SIZE,
    kvDtype,
    variant,
    matrices,
    speculation,
  };
  const pipelines = new Pipelines(device, bench.shaders);
  const runner = new Runner(program, pipelines, { stepsInFlight: STEPS_IN_FLIGHT, enforceEager: false });
  const blocks = new FilledBlocks(totalBlocks, BLOCK_SIZE, await createBlockHasher('xxh3'), { prefixCaching: false });
  const limits = {
    maxNumSeqs: batch,
    maxNumBatchedTokens: sizes.maxRows,
    maxLogitRows: sizes.maxLogitRows,
    maxDrafts: speculation?.drafts ?? 0,
  };
  const scheduler = new Scheduler({ ...limits, maxModelLen: context, maxWaiting: 4096, blockManager: blocks });
  const info: EngineInfo = {
    model: 'shape',
    fingerprint: '',
    numericsId: '',
    adapter: gpu.adapter,
    blockSize: BLOCK_SIZE,
    totalBlocks,
    maxModelLen: context,
    maxNumSeqs: batch,
    maxNumBatchedTokens: sizes.maxRows,
    kvCacheDtype: kvDtype,
    layers: spec.layers.length,
    layerBlockBytes: layerBlockBytes({ spec, blockSize: BLOCK_SIZE, dtype: kvDtype }),
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
    pools: false,
  };
  let left = 0;
  let done = () => {};
  let failed = (_error: Error) => {};
  const loop = new StepLoop({
    info,
    scheduler,
    blocks,
    runner,
    copies: null,
    loras: null,
    grammars: null,
    listener: {
      tokens(frames) {
        left -= frames.filter(({ finish }) => finish !== undefined).length;
        if (left === 0) done();
      },
      kvEvents() {},
      prefilled() {},
      failed: (_request, error) => failed(error),
      lost: (error) => failed(error),
    },
    stepsInFlight: STEPS_IN_FLIGHT,
    now: () => performance.now(),
    release() {},
  });
  let request = 0;
  return {
    program,
    pipelines,
    loop,
    async run(count, length, maxTokens, filled, sampling = GREEDY) {
      blocks.filled = filled;
      left = count;
      const ended = new Promise<void>((resolve, reject) => {
        done = resolve;
        failed = reject;
      });
      const started = performance.now();
      for (let i = 0; i < count; i++) {
        const prompt = Array.from({ length }, (_, at) => (at * 31 + i * 977 + request * 13) % spec.vocabSize);
        const choices = [{ choice: 0, generated: [] }];
        loop.add({ request: `${request++}`, prompt, choices, sampling: { ...sampling, maxTokens } });
      }
      await ended;
      return (performance.now() - started) / 1000;
    },
  };
}
