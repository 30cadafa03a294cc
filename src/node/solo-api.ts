import type { Engine } from '../engine/api.ts';
import { ggufFiles } from '../engine/files/gguf-file.ts';
import { type ModelFiles, readModelJson } from '../engine/files/source.ts';
import { joinParts } from '../engine/gguf/parts.ts';
import { readGgufParts } from '../engine/gguf/read-header.ts';
import { ggufSpec } from '../engine/gguf/spec.ts';
import { modelSpec } from '../engine/model/config.ts';
import { type Matryoshka, matryoshkaOf } from '../engine/model/pooler.ts';
import type { ModelSpec } from '../engine/model/spec.ts';
import { createApi } from '../frontend/api.ts';
import type { ServedModel } from '../frontend/backend.ts';
import { NO_METRICS } from '../frontend/metrics.ts';
import { modelParsers } from '../frontend/parsers/model-parsers.ts';
import { STORE_BOUNDS } from '../frontend/responses/response-store.ts';
import { loadChatTokenizer, type TokenizerFiles } from '../frontend/tokenizer.ts';
import { systemClock } from '../protocol/clock.ts';
import { generationDefaults } from '../protocol/generation-config.ts';
import type { Pooler } from '../protocol/pooling.ts';
import type { LocalBackend } from './local-backend.ts';
import { readTokenizerFiles } from './tokenizer-files.ts';

/** Body of one request; the page itself is the only one who asks. */
const MAX_BODY_BYTES = 8 << 20;

/** The OpenAI API over the engine of this page: what a hub does, without the hub. */
export type SoloApi = (request: Request) => Promise<Response>;

/**
 * Reads tokenizer and defaults of the model, and serves it; `generationConfig` as the option of that name.
 * Rejects with `EngineError` code `model`.
 */
export async function createSoloApi(
  files: ModelFiles,
  engine: Engine,
  backend: LocalBackend,
  options: {
    readonly generationConfig: 'auto' | 'vllm';
    readonly pooler: Pooler | null;
    readonly promptEmbeds: boolean;
  },
): Promise<SoloApi> {
  const { pooler } = options;
  const { spec, tokenizer, generation, matryoshka } = await factsOf(files, pooler !== null);
  const chat = loadChatTokenizer(tokenizer);
  const model: ServedModel = {
    name: files.offer.name,
    parent: null,
    created: Math.floor(Date.now() / 1000),
    maxModelLen: () => engine.info.maxModelLen,
    tokenizer: chat,
    parsers: modelParsers(chat.template, { toolCalls: 'auto', reasoning: 'auto' }),
    eosIds: spec.eosIds,
    generationDefaults: options.generationConfig === 'auto' ? generationDefaults(generation) : {},
    vocabSize: spec.vocabSize,
    hiddenSize: spec.hiddenSize,
    pooler: pooler && { ...pooler, matryoshka },
    backend,
  };
  const api = createApi({
    models: () => [model],
    maxBodyBytes: MAX_BODY_BYTES,
    drawSeed: () => {
      const [low, high] = crypto.getRandomValues(new Uint32Array(2));
      return [low!, high!];
    },
    now: () => Date.now(),
    after: systemClock.after,
    timeoutSeconds: null,
    promptEmbeds: options.promptEmbeds,
    storedResponses: STORE_BOUNDS,
    priorities: false,
    keepAliveSeconds: null,
    metrics: NO_METRICS,
    internalError: (error) => console.error(error),
  });
  return async (request) => api.fetch(request);
}

/** What the API needs of a model's files: small ones of a folder, or the metadata of a GGUF file. */
async function factsOf(
  files: ModelFiles,
  pools: boolean,
): Promise<{
  spec: Pick<ModelSpec, 'eosIds' | 'vocabSize' | 'hiddenSize'>;
  tokenizer: TokenizerFiles;
  generation: unknown;
  matryoshka: Matryoshka;
}> {
  const tokenizer = await readTokenizerFiles(files);
  const gguf = ggufFiles(files);
  if (gguf) {
    const spec = ggufSpec(joinParts(await readGgufParts(files, gguf)), gguf[0], pools);
    return { spec, tokenizer, generation: {}, matryoshka: null };
  }
  const has = (path: string) => files.offer.files.some((file) => file.path === path);
  const generation = has('generation_config.json') ? await readModelJson(files, 'generation_config.json') : {};
  const config = await readModelJson(files, 'config.json');
  return { spec: modelSpec(config, generation, pools), tokenizer, generation, matryoshka: matryoshkaOf(config) };
}
