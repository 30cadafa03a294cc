import { dataParallel } from '../config/data-parallel.ts';
import { pageOptions } from '../config/options.ts';
import { speculationOf } from '../config/speculative.ts';
import type { PageOptions } from '../config/table.ts';
import { EngineError, type EngineGroup } from '../engine/api.ts';
import { createEngines, type EngineOptions } from '../engine/create-engine.ts';
import { type ModelFiles, readModelJson } from '../engine/files/source.ts';
import { withRopeFactors } from '../engine/gguf/spec.ts';
import { openGpu } from '../engine/gpu/device.ts';
import type { ShaderLibrary } from '../engine/gpu/shader-source.ts';
import { weightRoom } from '../engine/model/memory.ts';
import { readModelSpec } from '../engine/model/read-spec.ts';
import { Golden } from '../engine/self-test.ts';
import { loadWeights } from '../engine/weights/weights.ts';
import type { Clock } from '../protocol/clock.ts';
import { blockHasherOf, hashSeedOf } from './block-hasher.ts';
import type { EngineIdentity, StartListener } from './engine-offer.ts';
import type { StartGrammarThread } from './grammar/messages.ts';
import { ThreadMatcher } from './grammar/thread-matcher.ts';
import { readVocabulary } from './grammar/vocabulary.ts';
import type { Progress } from './progress.ts';
import { listenerOf, Ranks, type RanksListener } from './ranks.ts';

/** What of the browser an engine is made with. */
export interface EnginePlace {
  readonly gpu: GPU | undefined;
  readonly shaders: ShaderLibrary;
  readonly now: () => number;
  readonly clock: Clock;
  readonly startGrammarThread: StartGrammarThread;
}

/** What is to be made, and from what. */
export interface EngineRequest {
  readonly offer: EngineIdentity;
  readonly files: ModelFiles;
  /** Shows what goes on; notices of `files` go to the same. */
  readonly progress: Progress;
  /** The page's query: wins over what is offered, but for what the hub fixes for all its nodes. */
  readonly query: string;
}

/**
 * Opens the GPU, loads the offered model into it and makes the node's engines, which have passed their self-test.
 * Rejects with `EngineError` or `OptionError`; nothing of the GPU is held then.
 */
export async function startEngine(
  place: EnginePlace,
  request: EngineRequest,
  listener: RanksListener & Pick<StartListener, 'adapter'>,
): Promise<Ranks> {
  const { offer, files, progress } = request;
  const options = optionsFor(request);
  const notices: string[] = [];
  const warm = () =>
    progress.warming([...notices, 'compiling shaders, checking the adapter, measuring its step budget'].join('; '));
  const notice = (words: string) => {
    notices.push(words);
    warm();
  };
  progress.say('reading the configuration of the model');
  const spec = await readModelSpec(files, offer.model.pooler !== undefined);
  const gpu = await openGpu(place.gpu, { allowSoftware: options['allow-software-adapter'] });
  listener.adapter(gpu.adapter);
  try {
    const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
    const room = { maxBufferSize, maxStorageBufferBindingSize, software: gpu.adapter.software };
    const load = (onClamped: (numbers: number) => void = () => {}) =>
      loadWeights(gpu.device, spec, files, {
        maxBytes: weightRoom(spec, engineOptions(options), room),
        dtype: options.dtype,
        quantization: options.quantization,
        onClamped,
        shaders: place.shaders,
        onProgress: (loaded, total) => progress.loaded(loaded, total),
      });
    const weights = await load((numbers) =>
      notice(`${numbers} weights were beyond 65504, the most that a f16 holds, and became that; bf16 keeps them`),
    );
    warm();
    // What is known of a model is known of its floats as they are stored.
    const asStored = options.quantization === 'none' && options.dtype === 'auto';
    const golden = asStored ? await optionalJson(files, 'self-test.json') : null;
    const { first } = dataParallel(options);
    const group = await createEngines({
      gpu,
      shaders: place.shaders,
      spec: withRopeFactors(spec, weights.ropeFactors),
      weights,
      reload: load,
      model: offer.model.name,
      fingerprint: offer.model.fingerprint,
      hasher: await blockHasherOf(offer),
      golden: golden === null ? null : Golden.parse(golden),
      grammars: new ThreadMatcher({
        startThread: place.startGrammarThread,
        vocabulary: () => readVocabulary(files, spec.vocabSize, spec.eosIds),
        clock: place.clock,
      }),
      options: engineOptions(options),
      listener: (i) => listenerOf(listener, first + i),
      notice,
      now: place.now,
    });
    return ranksOf(group, first);
  } catch (error) {
    gpu.device.destroy();
    throw error;
  }
}

function ranksOf({ engines, sleep }: EngineGroup, first: number): Ranks {
  return new Ranks(engines, first, async (level) => {
    const { wake, ...sleeping } = await sleep(level);
    return { ...sleeping, wake: async () => ranksOf(await wake(), first) };
  });
}

/** The page's options. Block size, hash and default sampling are the hub's to say: nodes of one cluster share them. */
function optionsFor({ offer, query }: EngineRequest): PageOptions {
  const fixed = { 'block-size': String(offer.blockSize), 'prefix-caching-hash-algo': offer.hashAlgo };
  const options = pageOptions(new URLSearchParams(query), { ...offer.options, ...fixed });
  refuseOther('block-size', options['block-size'], offer.blockSize);
  refuseOther('prefix-caching-hash-algo', options['prefix-caching-hash-algo'], offer.hashAlgo);
  refuseOther('prefix-caching-hash-seed', options['prefix-caching-hash-seed'], hashSeedOf(offer));
  refuseOther('generation-config', options['generation-config'], offer.options['generation-config'] ?? 'auto');
  refuseOther('runner', options.runner, offer.options.runner ?? 'auto');
  const fixedPooler = offer.options['pooler-config'] ?? 'null';
  refuseOther('pooler-config', JSON.stringify(options['pooler-config']), JSON.stringify(JSON.parse(fixedPooler)));
  return options;
}

function refuseOther<T>(name: string, asked: T, fixed: T): void {
  if (asked === fixed) return;
  throw new EngineError(
    'model',
    `The address of this page asks for ?${name}=${asked}, and all nodes of this hub use ${fixed}. Leave it out, or start the hub with --${name} ${asked}.`,
  );
}

function engineOptions(options: PageOptions): EngineOptions {
  return {
    engines: dataParallel(options).engines,
    blockSize: options['block-size'],
    kvCacheDtype: options['kv-cache-dtype'],
    maxModelLen: options['max-model-len'],
    maxNumSeqs: options['max-num-seqs'],
    maxNumBatchedTokens: options['max-num-batched-tokens'],
    numGpuBlocksOverride: options['num-gpu-blocks-override'],
    maxLoras: options['max-loras'],
    maxLoraRank: options['max-lora-rank'],
    gpuMemoryUtilization: options['gpu-memory-utilization'],
    enablePrefixCaching: options['enable-prefix-caching'],
    enforceEager: options['enforce-eager'],
    batchInvariant: options['batch-invariant'],
    speculation: speculationOf(options['speculative-config']),
    freeOrder: null,
  };
}

/** null where the model has no such file. */
async function optionalJson(files: ModelFiles, path: string): Promise<unknown> {
  return files.offer.files.some((file) => file.path === path) ? readModelJson(files, path) : null;
}
