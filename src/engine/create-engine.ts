import type { BlockHasher } from '../protocol/hashes.ts';
import type { SleepLevel } from '../protocol/messages.ts';
import { EngineError, type EngineGroup, type EngineInfo, type EngineListener, type SleepingGroup } from './api.ts';
import { type EngineParts, StepLoop } from './engine.ts';
import { allocate } from './gpu/allocate.ts';
import type { Gpu } from './gpu/device.ts';
import { DeviceWatch } from './gpu/device-watch.ts';
import { Pipelines } from './gpu/pipelines.ts';
import type { ShaderLibrary } from './gpu/shader-source.ts';
import type { GrammarMatcher } from './grammar.ts';
import type { KvDtype } from './kernels/dtype.ts';
import { chooseMatrices, chooseVariant, type KernelVariant } from './kernels/variant.ts';
import { BlockManager } from './kv/block-manager.ts';
import { copyBytes, GpuKvCopies } from './kv/gpu-copies.ts';
import { createPool, type KvLayer, type KvShape, layerBlockBytes, poolBlocks } from './kv/pool.ts';
import { LoraAdapters } from './lora/adapters.ts';
import { createEngineBuffers, engineBufferBytes } from './model/activations.ts';
import { adaptersBytes, engineSizes, type MemoryOptions, memoryBudget, sequenceBlocks } from './model/memory.ts';
import type { ProgramInputs } from './model/program-inputs.ts';
import { inverseFrequencies } from './model/rope.ts';
import type { ModelSpec } from './model/spec.ts';
import { Runner } from './runner.ts';
import { Scheduler } from './scheduler.ts';
import { type Golden, selfTest } from './self-test.ts';
import type { TableSizes } from './tables.ts';
import { measureBudget } from './warm-up.ts';
import type { LoadedWeights } from './weights/loaded.ts';
import { type StowedWeights, stowWeights } from './weights/stow.ts';

/** Steps submitted before the first is read back: hides the readback's latency, costs a stopped sequence that many idle rows. */
const STEPS_IN_FLIGHT = 3;
const MAX_WAITING = 4096;
/** A context that holds less is of no use to anyone, the self-test included. */
const LEAST_LENGTH = 16;

/** Names and meaning as the options table has them; null = choose. */
export interface EngineOptions extends MemoryOptions {
  readonly enablePrefixCaching: boolean;
  readonly enforceEager: boolean;
  /** Only kernels whose order of sums does not depend on the number of rows. */
  readonly batchInvariant: boolean;
  /** First order of the free blocks; null = ascending. Output must not depend on it. */
  readonly freeOrder: Uint32Array | null;
}

export interface EngineInputs {
  readonly gpu: Gpu;
  readonly shaders: ShaderLibrary;
  readonly spec: ModelSpec;
  readonly weights: LoadedWeights;
  /** Loads the same once more, from where they came. */
  readonly reload: () => Promise<LoadedWeights>;
  readonly model: string;
  readonly fingerprint: string;
  readonly hasher: BlockHasher;
  /** Known output of this model; null = check one layer against the CPU instead. */
  readonly golden: Golden | null;
  /** Shared by the engines; null where no grammars are matched. */
  readonly grammars: GrammarMatcher | null;
  readonly options: EngineOptions;
  /** Hears, in words, of what is served otherwise than the model would have it. */
  readonly notice?: (words: string) => void;
  /** Who hears of engine `i`. */
  readonly listener: (i: number) => EngineListener;
  readonly now: () => number;
}

/**
 * Makes `options.engines` engines, each of which has passed its self-test. They share device, weights, compiled shaders and the measured
 * step budget; tables, activations and KV pool are each one's own. They end, and sleep, together: closing one frees the GPU of all.
 * Throws `EngineError`: `out_of_memory` with numbers, `self_test` with the adapter's name, `device_lost`.
 */
export async function createEngines(inputs: EngineInputs): Promise<EngineGroup> {
  const { device } = inputs.gpu;
  const plan = planOf(inputs);
  if (plan.maxModelLen < plan.longest)
    inputs.notice?.(
      `a context of ${plan.maxModelLen} tokens, all that fits beside the model; it was made for ${plan.longest}`,
    );
  const pipelines = new Pipelines(device, inputs.shaders);
  return await fillGpu(inputs, { ...plan, pipelines, watch: new DeviceWatch(device), measured: null });
}

/** All that engines compute with comes to the GPU: at the start, and again whenever they wake up. */
async function fillGpu(inputs: EngineInputs, kept: Kept): Promise<EngineGroup> {
  const { gpu, spec, options, weights } = inputs;
  const loras = kept.sizes.lora ? new LoraAdapters(gpu.device, spec, kept.sizes.lora) : null;
  const shared = { ...kept, invFreq: await frequencyBuffers(gpu.device, spec), loras };
  const buffers: GPUBuffer[] = [...shared.invFreq];
  const release = () => {
    loras?.destroy();
    kept.watch.close();
  };
  const engines: StepLoop[] = [];
  for (let i = 0; i < options.engines; i++) {
    const made = await makeRunner(inputs, shared);
    buffers.push(...made.buffers);
    const { largestStep, maxModelLen } = shared;
    kept.measured ??= await measureBudget(made.runner, made.trial, largestStep, maxModelLen, inputs.now);
    made.runner.limitSubmission(kept.measured);
    const { measured } = kept;
    engines.push(await makeLoop(inputs, shared, made, { measured, listener: inputs.listener(i), release }));
  }
  kept.watch.onLost = (error) => {
    loras?.destroy();
    for (const engine of engines) engine.lose(error);
  };
  if (kept.watch.lost) throw kept.watch.lost;
  const [one, ...others] = engines;
  if (one === undefined) throw new Error('a node has at least one engine');
  const sleep = async (level: SleepLevel): Promise<SleepingGroup> => {
    const stowed = level === 1 ? await stowWeights(gpu.device, weights) : null;
    await Promise.all(engines.map((engine) => engine.stop()));
    weights.destroy();
    loras?.destroy();
    for (const buffer of buffers) buffer.destroy();
    // Memory is given back once the GPU is past its last use.
    await gpu.device.queue.onSubmittedWorkDone();
    return sleepingGroup(inputs, kept, stowed);
  };
  return { engines: [one, ...others], sleep };
}

function sleepingGroup(inputs: EngineInputs, kept: Kept, stowed: StowedWeights | null): SleepingGroup {
  return {
    keptBytes: stowed?.bytes ?? 0,
    async wake() {
      if (kept.watch.lost) throw kept.watch.lost;
      const weights = await (stowed ? stowed.restore() : inputs.reload());
      return await fillGpu({ ...inputs, weights }, kept);
    },
    async close() {
      kept.watch.close();
    },
  };
}

/** Sizes and choices that all engines of one adapter and model have in common. */
interface Plan {
  readonly kvShape: KvShape;
  readonly kvDtype: KvDtype;
  readonly variant: KernelVariant;
  readonly matrices: boolean;
  readonly sizes: TableSizes;
  readonly largestStep: number;
  /** What the model was made for, or `--max-model-len`; */
  readonly longest: number;
  /** and what is served of it. */
  readonly maxModelLen: number;
  /** Of each pool. */
  readonly blocks: number;
}

/** What is made once for a device, and stays while the engines sleep. */
interface Kept extends Plan {
  readonly pipelines: Pipelines;
  readonly watch: DeviceWatch;
  /** Step budget; null until the first engine measured it. */
  measured: number | null;
}

interface Shared extends Kept {
  readonly invFreq: GPUBuffer[];
  readonly loras: LoraAdapters | null;
}

/** Divides the memory, before any of it is taken. Throws `EngineError`: `out_of_memory` with numbers, `model` for a context that is not to be had. */
export function planOf({
  gpu,
  spec,
  weights,
  options,
}: Pick<EngineInputs, 'gpu' | 'spec' | 'weights' | 'options'>): Plan {
  const { software } = gpu.adapter;
  const { longest, maxBlocksPerSeq, largestStep, sizes } = engineSizes(spec, options, software);
  const kvDtype = options.kvCacheDtype === 'auto' ? kvDtypeOf(weights) : options.kvCacheDtype;
  const kvShape = { spec, blockSize: options.blockSize, dtype: kvDtype };
  const variant = chooseVariant(software);
  const matrices = chooseMatrices(gpu.matrices, options.batchInvariant);
  const activationBytes = engineBufferBytes(spec, sizes, variant);
  const most = options.maxNumSeqs * maxBlocksPerSeq;
  const transferBytes = options.enablePrefixCaching ? copyBytes(kvShape, most) : 0;
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const room = { maxBufferSize, maxStorageBufferBindingSize, software };
  const budget = memoryBudget(room, options.gpuMemoryUtilization);
  const shared = weights.bytes + adaptersBytes(spec, sizes);
  const forPool = (bytes: number) => (bytes - shared) / options.engines - activationBytes - transferBytes;
  const wish = { override: options.numGpuBlocksOverride, most, ...sequenceBlocks(options, longest) };
  const pool = { usual: forPool(budget.usual), most: forPool(budget.most) };
  const blocks = poolBlocks(kvShape, room, pool, wish);
  const maxModelLen = contextOf(options, longest, blocks);
  return { kvShape, kvDtype, variant, matrices, sizes, largestStep, longest, maxModelLen, blocks };
}

/** What computes the steps of one engine, and a scheduler to try it with. */
interface MadeRunner {
  readonly runner: Runner;
  readonly pool: KvLayer[];
  /** Its own, the pool's among them. */
  readonly buffers: readonly GPUBuffer[];
  readonly trial: () => Scheduler;
}

async function makeRunner(inputs: EngineInputs, shared: Shared): Promise<MadeRunner> {
  const { gpu, spec, weights, options, golden } = inputs;
  const { kvShape, sizes, invFreq, loras, kvDtype, variant, matrices, pipelines } = shared;
  const buffers = await createEngineBuffers(gpu.device, spec, sizes, variant);
  const pool = await createPool(gpu.device, kvShape, shared.blocks);
  const { blockSize } = options;
  const { enforceEager, speculation } = options;
  const common = { gpu, spec, weights, sizes, buffers, pool, invFreq, loras };
  const program: ProgramInputs = { ...common, blockSize, kvDtype, variant, matrices, speculation };
  const runner = new Runner(program, pipelines, { stepsInFlight: STEPS_IN_FLIGHT, enforceEager });
  const trial = () => newScheduler(inputs, shared, newBlocks(inputs, shared, false), shared.largestStep, 0);
  await selfTest({
    runner,
    newScheduler: trial,
    golden,
    maxLength: shared.maxModelLen,
    largestStep: shared.largestStep,
  });
  return { runner, pool, buffers: [...Object.values(buffers), ...pool.flatMap(({ k, v }) => [k, v])], trial };
}

async function makeLoop(
  inputs: EngineInputs,
  shared: Shared,
  { runner, pool }: MadeRunner,
  { measured, ...parts }: Pick<EngineParts, 'listener' | 'release'> & { readonly measured: number },
): Promise<StepLoop> {
  const { gpu, spec, weights, options } = inputs;
  const { kvShape, blocks: totalBlocks } = shared;
  const { blockSize, maxNumSeqs, enablePrefixCaching } = options;
  const maxNumBatchedTokens = options.maxNumBatchedTokens ?? Math.max(measured, maxNumSeqs + 1);
  const info: EngineInfo = {
    model: inputs.model,
    fingerprint: inputs.fingerprint,
    numericsId: numericsId(
      gpu,
      weights,
      shared.kvDtype,
      shared.matrices ? `${shared.variant}-matrices` : shared.variant,
    ),
    adapter: gpu.adapter,
    ...{ blockSize, totalBlocks, maxNumSeqs, maxNumBatchedTokens },
    maxModelLen: shared.maxModelLen,
    kvCacheDtype: shared.kvDtype,
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
    pools: spec.pools,
    layers: spec.layers.length,
    layerBlockBytes: layerBlockBytes(kvShape),
  };
  const blocks = newBlocks(inputs, shared, enablePrefixCaching);
  return new StepLoop({
    ...parts,
    info,
    blocks,
    scheduler: newScheduler(inputs, shared, blocks, maxNumBatchedTokens, options.speculation?.drafts ?? 0),
    runner,
    loras: shared.loras,
    grammars: inputs.grammars,
    copies: enablePrefixCaching
      ? await GpuKvCopies.create(gpu.device, shared.pipelines, kvShape, pool, totalBlocks)
      : null,
    stepsInFlight: STEPS_IN_FLIGHT,
    now: inputs.now,
  });
}

function newBlocks({ options, hasher }: EngineInputs, { blocks }: Plan, prefixCaching: boolean): BlockManager {
  const { blockSize, freeOrder } = options;
  return new BlockManager(blocks, blockSize, hasher, { prefixCaching, ...(freeOrder && { order: freeOrder }) });
}

function newScheduler(
  { options }: EngineInputs,
  { maxModelLen, sizes }: Plan,
  blockManager: BlockManager,
  maxNumBatchedTokens: number,
  maxDrafts: number,
): Scheduler {
  const { maxNumSeqs } = options;
  const { maxLogitRows } = sizes;
  return new Scheduler({
    ...{ maxNumSeqs, maxNumBatchedTokens, maxModelLen, maxLogitRows, blockManager, maxDrafts },
    maxWaiting: MAX_WAITING,
  });
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
  return weights.parts('embed', null)[0]?.dtype === 'f32' ? 'f32' : 'f16';
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
