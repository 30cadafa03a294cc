import type { Speculation } from '../../config/speculative.ts';
import type { AdapterRoom } from '../../protocol/messages.ts';
import { bucketOf } from '../bucket.ts';
import { bytesPerValue, type KvDtype } from '../kernels/dtype.ts';
import { chooseVariant } from '../kernels/variant.ts';
import { blockBytes, layerBlockBytes } from '../kv/pool.ts';
import { loraBytes, loraProducts, productBytes } from '../lora/sites.ts';
import type { TableSizes } from '../tables.ts';
import { type DtypeOption, type QuantizationOption, quantizable } from '../weights/weight-plan.ts';
import { engineBufferBytes, engineBufferSizes } from './activations.ts';
import { longestSequence } from './context.ts';
import type { ModelSpec } from './spec.ts';

/** Largest step that buffers are made for when the budget is to be measured. */
const LARGEST_STEP = { software: 256, hardware: 2048 };
/** Fewest rows that can have logits in one step; prompts whose logprobs are asked for advance by at most this. */
const LOGIT_ROWS = 64;
/** Rows of drafts that a step may have. */
const DRAFT_ROWS = 32;
/**
 * WebGPU tells nobody how much memory there is. The largest buffer an adapter allows is the best hint it gives, but often a bound of an API
 * and below what there is (docs/decisions/0018-memory-nobody-tells.md): what a model cannot do without may be twice as much as is
 * taken at will. A software adapter lives in the machine's own memory beside everything else and takes a small part of it.
 */
const DEFAULT_UTILIZATION = { software: { usual: 0.25, most: 0.25 }, hardware: { usual: 0.9, most: 1.8 } };
/** Tokens of a context, where nobody asks for a length and all of the model's do not fit: memory above the usual is taken up to so many, */
const WANTED_CONTEXT = 8192;
/** and below so many the model is refused. */
const LEAST_CONTEXT = 1024;

/** The options that memory depends on, as the options table has them; null = choose. */
export interface MemoryOptions {
  /** Engines that share the adapter and the weights (`--data-parallel-size`); all else is each one's own. */
  readonly engines: number;
  readonly blockSize: number;
  readonly maxModelLen: number | null;
  readonly maxNumSeqs: number;
  /** LoRA adapters at once; 0 = none ever. */
  readonly maxLoras: number;
  readonly maxLoraRank: number;
  readonly maxNumBatchedTokens: number | null;
  readonly numGpuBlocksOverride: number | null;
  readonly gpuMemoryUtilization: number | null;
  readonly kvCacheDtype: 'auto' | KvDtype;
  readonly speculation: Speculation | null;
}

/** Sizes of an engine's tables, and what they follow from. */
export interface EngineSizes {
  /** Longest sequence, tokens. */
  readonly longest: number;
  readonly maxBlocksPerSeq: number;
  /** Rows of the largest step. */
  readonly largestStep: number;
  readonly sizes: TableSizes;
}

/** Throws `EngineError` code `model` where `--max-model-len` is more than the model's. */
export function engineSizes(spec: ModelSpec, options: MemoryOptions, software: boolean): EngineSizes {
  const longest = longestSequence(spec, options.maxModelLen);
  const maxBlocksPerSeq = Math.ceil(longest / options.blockSize);
  const usual = software ? LARGEST_STEP.software : LARGEST_STEP.hardware;
  const largestStep = options.maxNumBatchedTokens ?? Math.max(usual, bucketOf(options.maxNumSeqs + 1));
  const sizes = {
    maxRows: bucketOf(largestStep),
    maxLogitRows: bucketOf(Math.max(options.maxNumSeqs + (options.speculation ? DRAFT_ROWS : 0), LOGIT_ROWS)),
    maxDeltas: options.maxNumSeqs * maxBlocksPerSeq,
    maxSlots: options.maxNumSeqs,
    maxLen: longest,
    maxBlocksPerSeq,
    vocabSize: spec.vocabSize,
    ...(options.maxLoras > 0 && { lora: { adapters: options.maxLoras, rank: options.maxLoraRank } }),
  };
  return { longest, maxBlocksPerSeq, largestStep, sizes };
}

/** Bytes. */
export interface MemoryBudget {
  /** What is taken at will, for as many KV blocks as can be used. */
  readonly usual: number;
  /** What weights, working memory and the KV blocks of one sequence may take where the usual is too little. */
  readonly most: number;
}

/** Bytes that weights, tables, activations and KV pool may take together; exactly `utilization` of the largest buffer, where it is given. */
export function memoryBudget({ maxBufferSize, software }: AdapterRoom, utilization: number | null): MemoryBudget {
  if (utilization !== null) return { usual: maxBufferSize * utilization, most: maxBufferSize * utilization };
  const { usual, most } = software ? DEFAULT_UTILIZATION.software : DEFAULT_UTILIZATION.hardware;
  return { usual: maxBufferSize * usual, most: maxBufferSize * most };
}

/** KV blocks of one sequence: those worth memory above the usual, and those without which there is no engine. */
export interface SequenceBlocks {
  readonly wanted: number;
  readonly least: number;
}

/** A length that was asked for is kept; else the context becomes as long as what fits. */
export function sequenceBlocks(options: MemoryOptions, longest: number): SequenceBlocks {
  const blocks = (tokens: number) => Math.ceil(Math.min(longest, tokens) / options.blockSize);
  if (options.maxModelLen !== null) return { wanted: blocks(longest), least: blocks(longest) };
  return { wanted: blocks(WANTED_CONTEXT), least: blocks(LEAST_CONTEXT) };
}

/** Bytes of the LoRA adapters, which all engines of an adapter share: kept free from the start, also while none is loaded. */
export function adaptersBytes(spec: ModelSpec, { lora }: TableSizes): number {
  return lora ? loraBytes(spec, lora) : 0;
}

/**
 * Bytes that the weights may take: what working memory and the least KV blocks of one sequence (or `--num-gpu-blocks-override`)
 * leave of the most that may be taken. Known before a byte of weights is read, and never less than what the engine then grants.
 */
export function weightRoom(spec: ModelSpec, options: MemoryOptions, room: AdapterRoom): number {
  const { sizes, longest } = engineSizes(spec, options, room.software);
  const activations = engineBufferBytes(spec, sizes, chooseVariant(room.software));
  const dtype = options.kvCacheDtype === 'auto' ? 'f16' : options.kvCacheDtype;
  const blocks = options.numGpuBlocksOverride ?? sequenceBlocks(options, longest).least;
  const kv = blocks * blockBytes({ spec, blockSize: options.blockSize, dtype });
  const { most } = memoryBudget(room, options.gpuMemoryUtilization);
  return Math.max(0, Math.floor(most - options.engines * (activations + kv) - adaptersBytes(spec, sizes)));
}

/**
 * Whether an engine of the model finds room in what is taken at will: weights, activations, and the least KV blocks of one sequence (or as
 * many as `--num-gpu-blocks-override` says) in each engine. weightBytes: of its weights as the checkpoint has them. An estimate before anything is
 * loaded; the engine itself counts exactly.
 */
export function fitsAdapter(
  { spec, weightBytes }: { readonly spec: ModelSpec; readonly weightBytes: number },
  options: MemoryOptions & { readonly quantization: QuantizationOption; readonly dtype: DtypeOption },
  room: AdapterRoom,
): boolean {
  if (options.maxModelLen !== null && options.maxModelLen > spec.maxPositions) return false;
  const { sizes, longest } = engineSizes(spec, options, room.software);
  const perValue = weightBytes / spec.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  const { quantization } = options;
  // What takes less than a 16-bit float is quantized already, and stays as it is.
  const asStored = perValue < 1.9;
  const floats = asStored || options.dtype === 'auto' ? perValue : bytesPerValue(options.dtype);
  const packed = asStored || quantization === 'none' ? floats : bytesPerValue(quantization);
  const weights = spec.weights.reduce((sum, w) => sum + w.rows * w.cols * (quantizable(w) ? packed : floats), 0);
  const dtype = options.kvCacheDtype === 'auto' ? (packed > 3 ? 'f32' : 'f16') : options.kvCacheDtype;
  const kvShape = { spec, blockSize: options.blockSize, dtype };
  const blocks = options.numGpuBlocksOverride ?? sequenceBlocks(options, longest).least;
  const variant = chooseVariant(room.software);
  const buffers = Object.values(engineBufferSizes(spec, sizes, variant));
  const { lora } = sizes;
  const loras = lora ? loraProducts(spec).flatMap((product) => Object.values(productBytes(product, lora))) : [];
  const largest = Math.max(...buffers, ...loras, layerBlockBytes(kvShape) * blocks);
  if (largest > Math.min(room.maxBufferSize, room.maxStorageBufferBindingSize)) return false;
  const each = engineBufferBytes(spec, sizes, variant) + blocks * blockBytes(kvShape);
  const needed = weights + adaptersBytes(spec, sizes) + options.engines * each;
  return needed <= memoryBudget(room, options.gpuMemoryUtilization).usual;
}
