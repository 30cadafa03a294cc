import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { GenerationDefaults } from '../protocol/generation-config.ts';
import type { Pooler } from '../protocol/pooling.ts';
import { ApiError, badRequest } from './errors.ts';
import type { ModelParsers } from './parsers/model-parsers.ts';
import type { Routing } from './routing.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** What computes: a cluster behind a hub, or the engine of this page. */
export interface Backend {
  /**
   * Frames of all choices, interleaved; each token once, in order per choice (offsets without hole); every choice ends with a frame
   * that has `finish`. The iterable ends after the last choice. When `signal` aborts, computing stops at once and the iterable ends
   * or throws, whichever is easier: nobody reads it any more.
   * `routing` is told each node that the request goes to, before its first frame; a backend without nodes tells nothing.
   * Throws `ApiError` (503 when no node is ready, when a node is lost, ...); any other error is answered as a 500.
   * `routing.migrated` hears of each migration before the first frame that follows it.
   */
  generate(request: GenerateRequest, signal: AbortSignal, routing: Routing): AsyncIterable<TokensFrame>;
}

/** How a model makes embeddings. */
export interface ServedPooler extends Pooler {
  /** Numbers of values to which they may be cut: any, these alone, or null: none. */
  readonly matryoshka: 'any' | readonly number[] | null;
}

/** One model that the API serves. */
export interface ServedModel {
  readonly name: string;
  /** Of a LoRA adapter: name of the model that it is added to; null = a model of its own. */
  readonly parent: string | null;
  /** Unix seconds. */
  readonly created: number;
  /** Prompt and output together: as the ready nodes have it, or the model's own limit while no node is ready. */
  maxModelLen(): number;
  /** null with `--skip-tokenizer-init`: token ids in, token ids out. */
  readonly tokenizer: ChatTokenizer | null;
  /** How tool calls and reasoning are found in its answers. */
  readonly parsers: ModelParsers;
  readonly eosIds: readonly number[];
  /** What the model's `generation_config.json` sets; a request's own fields win (`--generation-config auto`). */
  readonly generationDefaults: GenerationDefaults;
  /** Rows of the model's LM head; ids at or above it are refused. */
  readonly vocabSize: number;
  /** Values of a token's embedding. */
  readonly hiddenSize: number;
  /** How it makes embeddings of prompts; null = it generates. A model does one of the two. */
  readonly pooler: ServedPooler | null;
  readonly backend: Backend;
}

/** The model of that name. Throws `ApiError` 404. */
export function findModel(models: readonly ServedModel[], name: string): ServedModel {
  const model = models.find((candidate) => candidate.name === name);
  if (model !== undefined) return model;
  const known = models.map((candidate) => `'${candidate.name}'`).join(', ');
  throw new ApiError(404, 'not_found_error', `The model '${name}' does not exist. This server has: ${known}.`, {
    code: 'model_not_found',
    param: 'model',
  });
}

/** Throws `ApiError` 400 for a model that makes embeddings. */
export function checkGenerates({ name, pooler }: ServedModel): void {
  if (pooler === null) return;
  throw badRequest(
    `The model '${name}' is an embedding model and generates no text. Send it to /v1/embeddings, or start the server with --runner generate.`,
    'model',
  );
}

/** How the model makes embeddings. Throws `ApiError` 400 for one that generates. */
export function poolerOf({ name, pooler }: ServedModel): ServedPooler {
  if (pooler !== null) return pooler;
  throw badRequest(
    `The model '${name}' generates text and gives no embeddings. Start the server with --runner pooling, or with a model for embeddings.`,
    'model',
  );
}
