import { dataParallel } from '../config/data-parallel.ts';
import { OptionError } from '../config/option.ts';
import { pageOptions } from '../config/options.ts';
import { speculationOf } from '../config/speculative.ts';
import { fitsAdapter } from '../engine/model/memory.ts';
import type { ModelSpec } from '../engine/model/spec.ts';
import type { AdapterRoom, ModelOffer } from '../protocol/messages.ts';

/** A model that nodes can be offered, and what it takes. */
export interface OfferedModel {
  readonly offer: ModelOffer;
  readonly spec: ModelSpec;
  /** Of its weights as the checkpoint has them. */
  readonly weightBytes: number;
}

/** What a page tells of itself before it is offered a model. */
export interface PageFacts {
  /** null = unknown: every model is taken to fit. */
  readonly room: AdapterRoom | null;
  readonly query: string;
}

/**
 * The model that a new page gets (docs/protocol.md, J11): of those that fit its adapter, the largest that no node has yet, and where each
 * has one, the largest. Where none fits, the smallest: its engine then says in numbers what is missing, and a page may know better.
 * held: names of the models that nodes have. nodeOptions: what the hub offers its nodes.
 */
export function modelFor(
  models: readonly [OfferedModel, ...OfferedModel[]],
  { room, query }: PageFacts,
  held: ReadonlySet<string>,
  nodeOptions: Readonly<Record<string, string>>,
): OfferedModel {
  const options = memoryOptions(query, nodeOptions);
  const fits = (model: OfferedModel) => room === null || options === null || fitsAdapter(model, options, room);
  const able = models.filter(fits);
  const fresh = able.filter(({ offer }) => !held.has(offer.name));
  const [first, ...others] = fresh.length > 0 ? fresh : able;
  if (first !== undefined)
    return others.reduce((best, each) => (each.weightBytes > best.weightBytes ? each : best), first);
  return models.reduce((best, each) => (each.weightBytes < best.weightBytes ? each : best));
}

/** null where the page's own options cannot be read: it refuses them itself, whatever it is offered. */
function memoryOptions(
  query: string,
  nodeOptions: Readonly<Record<string, string>>,
): Parameters<typeof fitsAdapter>[1] | null {
  try {
    const options = pageOptions(new URLSearchParams(query), nodeOptions);
    return {
      blockSize: options['block-size'],
      maxModelLen: options['max-model-len'],
      maxNumSeqs: options['max-num-seqs'],
      maxNumBatchedTokens: options['max-num-batched-tokens'],
      engines: dataParallel(options).engines,
      numGpuBlocksOverride: options['num-gpu-blocks-override'],
      maxLoras: options['max-loras'],
      maxLoraRank: options['max-lora-rank'],
      gpuMemoryUtilization: options['gpu-memory-utilization'],
      speculation: speculationOf(options['speculative-config']),
      quantization: options.quantization,
      dtype: options.dtype,
      kvCacheDtype: options['kv-cache-dtype'],
    };
  } catch (error) {
    if (error instanceof OptionError) return null;
    throw error;
  }
}
