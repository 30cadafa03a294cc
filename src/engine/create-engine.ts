import type { BlockHasher } from '../protocol/hashes.ts';
import { type Engine, EngineError, type EngineInfo, type EngineListener } from './api.ts';
import { StepLoop } from './engine.ts';
import { allocate } from './gpu/allocate.ts';
import type { Gpu } from './gpu/device.ts';
import { Pipelines } from './gpu/pipelines.ts';
import type { ShaderLibrary } from './gpu/shader-source.ts';
import { chooseVariant } from './kernels/variant.ts';
import { BlockManager } from './kv/block-manager.ts';
import { copyBytes, GpuKvCopies } from './kv/gpu-copies.ts';
import { createPool, type KvDtype, layerBlockBytes, poolBlocks } from './kv/pool.ts';
import { createEngineBuffers, engineBufferSizes } from './model/activations.ts';
import { engineSizes, type MemoryOptions, memoryBudget } from './model/memory.ts';
import type { ProgramInputs } from './model/program-inputs.ts';
import { inverseFrequencies } from './model/rope.ts';
import type { ModelSpec } from './model/spec.ts';
import { Runner } from './runner.ts';
import { Scheduler } from './scheduler.ts';
import { type Golden, selfTest } from './self-test.ts';
import { measureBudget } from './warm-up.ts';
import type { LoadedWeights } from './weights/weights.ts';

/** Steps submitted before the first is read back: hides the readback's latency, costs a stopped sequence that many idle rows. */
const STEPS_IN_FLIGHT = 3;
const MAX_WAITING = 4096;
/** A context that holds less is of no use to anyone, the self-test included. */
const LEAST_LENGTH = 16;

/** Names and meaning as the options table has them; null = choose. */
export interface EngineOptions extends MemoryOptions {
  readonly enablePrefixCaching: boolean;
  readonly enforceEager: boolean;
  /** First order of the free blocks; null = ascending. Output must not depend on it. */
  readonly freeOrder: Uint32Array | null;
}

export interface EngineInputs {
  readonly gpu: Gpu;
  readonly shaders: ShaderLibrary;
  readonly spec: ModelSpec;
  readonly weights: LoadedWeights;
  readonly model: string;
  readonly fingerprint: string;
  readonly hasher: BlockHasher;
  /** Known output of this model; null = check one layer against the CPU instead. */
  readonly golden: Golden | null;
  readonly options: EngineOptions;
  readonly listener: EngineListener;
  readonly now: () => number;
}

/**
 * Makes an engine that has passed its self-test and measured its step budget.
 * Throws `EngineError`: `out_of_memory` with numbers, `self_test` with the adapter's name, `device_lost`.
 */
export async function createEngine(inputs: EngineInputs): Promise<Engine> {
  const { gpu, spec, weights, options } = inputs;
  const { software } = gpu.adapter;
  const { longest, maxBlocksPerSeq, largestStep, sizes } = engineSizes(spec, options, software);
  const kvDtype = options.kvCacheDtype === 'auto' ? kvDtypeOf(weights) : options.kvCacheDtype;
  const kvShape = { spec, blockSize: options.blockSize, dtype: kvDtype };
  const { device } = gpu;

  const activationBytes = Object.values(engineBufferSizes(spec, sizes)).reduce((a, b) => a + b, 0);
  const most = options.maxNumSeqs * maxBlocksPerSeq;
  const transferBytes = options.enablePrefixCaching ? copyBytes(kvShape, most) : 0;
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  const room = { maxBufferSize, maxStorageBufferBindingSize, software };
  const budget = memoryBudget(room, options.gpuMemoryUtilization) - weights.bytes - activationBytes - transferBytes;
  const blocks = poolBlocks(kvShape, device.limits, budget, {
    override: options.numGpuBlocksOverride,
    most,
    least: maxBlocksPerSeq,
  });
  const maxModelLen = contextOf(options, longest, blocks);
  const variant = chooseVariant(software);
  const buffers = await createEngineBuffers(device, spec, sizes);
  const pool = await createPool(device, kvShape, blocks);
  const invFreq = await frequencyBuffers(device, spec);
  const program: ProgramInputs = {
    gpu,
    spec,
    weights,
    sizes,
    buffers,
    pool,
    invFreq,
    blockSize: options.blockSize,
    kvDtype,
    variant,
  };
  const pipelines = new Pipelines(device, inputs.shaders);
  const runner = new Runner(program, pipelines, {
    stepsInFlight: STEPS_IN_FLIGHT,
    enforceEager: options.enforceEager,
  });

  const schedulerFor = (blockManager: BlockManager, maxNumBatchedTokens: number) =>
    new Scheduler({
      maxNumSeqs: options.maxNumSeqs,
      maxNumBatchedTokens,
      maxModelLen,
      maxLogitRows: sizes.maxLogitRows,
      blockManager,
      maxWaiting: MAX_WAITING,
    });
  const newBlocks = (prefixCaching: boolean) =>
    new BlockManager(blocks, options.blockSize, inputs.hasher, {
      prefixCaching,
      ...(options.freeOrder && { order: options.freeOrder }),
    });
  const trial = () => schedulerFor(newBlocks(false), largestStep);
  await selfTest({ runner, newScheduler: trial, golden: inputs.golden, maxLength: maxModelLen });
  const measured = await measureBudget(runner, trial, largestStep, maxModelLen, inputs.now);
  const maxNumBatchedTokens = options.maxNumBatchedTokens ?? Math.max(measured, options.maxNumSeqs + 1);
  runner.limitSubmission(measured);

  const info: EngineInfo = {
    model: inputs.model,
    fingerprint: inputs.fingerprint,
    numericsId: numericsId(gpu, weights, kvDtype, variant),
    adapter: gpu.adapter,
    blockSize: options.blockSize,
    totalBlocks: blocks,
    maxModelLen,
    maxNumSeqs: options.maxNumSeqs,
    maxNumBatchedTokens,
    kvCacheDtype: kvDtype,
    vocabSize: spec.vocabSize,
    layers: spec.layers.length,
    layerBlockBytes: layerBlockBytes(kvShape),
  };
  const copies = options.enablePrefixCaching
    ? await GpuKvCopies.create(device, pipelines, kvShape, pool, blocks)
    : null;
  const blockManager = newBlocks(options.enablePrefixCaching);
  let closing = false;
  const engine = new StepLoop({
    info,
    scheduler: schedulerFor(blockManager, maxNumBatchedTokens),
    blocks: blockManager,
    runner,
    copies,
    listener: inputs.listener,
    stepsInFlight: STEPS_IN_FLIGHT,
    now: inputs.now,
    release: () => {
      closing = true;
      device.destroy();
    },
  });
  void device.lost.then((lost) => {
    if (closing) return;
    engine.lose(
      new EngineError(
        'device_lost',
        `The GPU device was lost (${lost.reason}): ${lost.message.replace(/\.$/, '') || 'the browser gave no reason'}.`,
      ),
    );
  });
  // Everything that may fail is under an error scope; what comes here makes later numbers worthless.
  device.addEventListener('uncapturederror', ({ error }) => {
    engine.lose(
      new EngineError(
        'internal',
        `The GPU refused a command: ${error.message.replace(/\.$/, '')}. If it comes again, report it.`,
      ),
    );
  });
  return engine;
}

/** Longest sequence that the pool holds: at most `longest`, and all of it where somebody asked for it. Throws `EngineError` code `model`. */
function contextOf(options: EngineOptions, longest: number, blocks: number): number {
  const held = blocks * options.blockSize;
  if (options.maxModelLen !== null && options.maxModelLen > held) {
    throw new EngineError(
      'model',
      `--num-gpu-blocks-override ${blocks} holds ${held} tokens, fewer than --max-model-len ${options.maxModelLen}. Raise the one or lower the other.`,
    );
  }
  const context = Math.min(longest, held);
  if (context >= LEAST_LENGTH) return context;
  throw new EngineError(
    'model',
    `A context of ${context} tokens is too small, ${LEAST_LENGTH} is the least. Raise --max-model-len or --num-gpu-blocks-override.`,
  );
}

/** `auto`: as exact as the weights and not larger. A bf16 checkpoint gets f16, which takes the same room and rounds less. */
function kvDtypeOf(weights: LoadedWeights): KvDtype {
  return weights.get('embed', null).dtype === 'f32' ? 'f32' : 'f16';
}

/** Equal ids give bit-equal answers: adapter, dtypes, kernel family (hence order of sums). */
function numericsId(gpu: Gpu, weights: LoadedWeights, kvDtype: KvDtype, variant: string): string {
  const { vendor, architecture, device, description } = gpu.adapter;
  return [vendor, architecture, device, description, weights.dtypes, `kv-${kvDtype}`, variant].join('/');
}

async function frequencyBuffers(device: GPUDevice, spec: ModelSpec): Promise<GPUBuffer[]> {
  const made = new Map<string, GPUBuffer>();
  const result: GPUBuffer[] = [];
  for (const { rope } of spec.layers) {
    const key = JSON.stringify(rope);
    let buffer = made.get(key);
    if (!buffer) {
      const values = Float32Array.from(inverseFrequencies(rope));
      ({ invFreq: buffer } = await allocate(device, 'Rotary embedding', { invFreq: values.byteLength }));
      device.queue.writeBuffer(buffer, 0, values);
      made.set(key, buffer);
    }
    result.push(buffer);
  }
  return result;
}
