import type { GenerateRequest } from '../protocol/generate.ts';
import { type Pooling, readEmbedding } from '../protocol/pooling.ts';
import { GREEDY } from '../protocol/sampling.ts';
import type { ServedModel, ServedPooler } from './backend.ts';
import type { EmbeddingRequest } from './embedding-schema.ts';
import { ApiError, badRequest } from './errors.ts';
import { embeddingPrompt } from './prompt.ts';
import type { ResponseHead } from './response.ts';
import type { RouteReport } from './routing.ts';
import { cancelError } from './running.ts';
import { Tally } from './usage.ts';

/** Inputs of one request that are computed at once: enough to fill the steps of some nodes, few enough to leave room for others. */
const AT_ONCE = 64;

/** What a request for embeddings computes. */
export interface EmbeddingPlan {
  readonly head: ResponseHead;
  readonly model: ServedModel;
  /** Token ids of each input. */
  readonly prompts: readonly (readonly number[])[];
  readonly pooling: Pooling;
  readonly base64: boolean;
  readonly cacheSalt: string | undefined;
  readonly priority: number | undefined;
  readonly traceparent: string | undefined;
}

/** What a checked request asks of a model that makes embeddings. Rejects with `ApiError` 400. */
export async function planEmbeddings(
  request: EmbeddingRequest,
  model: ServedModel,
  pooler: ServedPooler,
  head: ResponseHead,
  traceparent: string | undefined,
): Promise<EmbeddingPlan> {
  const dimensions = dimensionsOf(request, model, pooler);
  const prompts: number[][] = [];
  for (const input of request.input) {
    // Tokenizing long texts takes long: others have their turn in between.
    if (prompts.length > 0) await new Promise((resolve) => setTimeout(resolve));
    prompts.push(embeddingPrompt(input, request, model));
  }
  return {
    head,
    model,
    prompts,
    pooling: { type: pooler.type, normalize: request.use_activation ?? pooler.normalize, dimensions },
    base64: request.encoding_format === 'base64',
    cacheSalt: request.cache_salt,
    priority: request.priority,
    traceparent,
  };
}

/** vLLM's rule: embeddings are cut only where the model says that it was trained for it. */
function dimensionsOf(
  { dimensions }: EmbeddingRequest,
  { name, hiddenSize }: ServedModel,
  { matryoshka }: ServedPooler,
): number {
  if (dimensions === undefined) return hiddenSize;
  const refuse = (message: string) => badRequest(message, 'dimensions');
  if (matryoshka === null)
    throw refuse(
      `The model '${name}' does not say that its embeddings may be cut ("is_matryoshka" or "matryoshka_dimensions" in its config.json), and cut ones would be poor. Leave 'dimensions' out.`,
    );
  if (matryoshka !== 'any' && !matryoshka.includes(dimensions))
    throw refuse(`The embeddings of '${name}' may have ${matryoshka.join(', ')} dimensions, not ${dimensions}.`);
  if (dimensions > hiddenSize) throw refuse(`The embeddings of '${name}' have ${hiddenSize} dimensions at most.`);
  return dimensions;
}

/** The embeddings of a plan, computed some at a time. */
export class EmbeddingRun {
  readonly tally: Tally;
  readonly #plan: EmbeddingPlan;
  readonly #routes: RouteReport;

  constructor(plan: EmbeddingPlan, routes: RouteReport) {
    this.#plan = plan;
    this.#routes = routes;
    this.tally = new Tally(plan.prompts.reduce((sum, ids) => sum + ids.length, 0));
  }

  /** The body of the answer. All computing stops when one input fails, or `signal` aborts; rejects with the reason then, `ApiError` 499 for a client that left. */
  async answer(signal: AbortSignal): Promise<object> {
    const { prompts, head } = this.#plan;
    const data: object[] = [];
    const stop = new AbortController();
    let next = 0;
    const work = async () => {
      while (next < prompts.length) {
        const index = next++;
        // Each its own: whoever computes listens to it.
        const either = AbortSignal.any([signal, stop.signal]);
        data[index] = { object: 'embedding', index, embedding: await this.#one(index, either) };
      }
    };
    try {
      await Promise.all(Array.from({ length: Math.min(AT_ONCE, prompts.length) }, work));
    } catch (error) {
      throw signal.aborted ? ended(signal) : error;
    } finally {
      stop.abort();
    }
    return { object: 'list', ...head, data, usage: this.tally.usage() };
  }

  async #one(index: number, signal: AbortSignal): Promise<string | number[]> {
    const { head, model, prompts, pooling, cacheSalt, priority, traceparent, base64 } = this.#plan;
    const request: GenerateRequest = {
      request: `${head.id}-${index}`,
      prompt: [...(prompts[index] as readonly number[])],
      choices: [{ choice: 0, generated: [] }],
      sampling: { ...GREEDY, maxTokens: 1 },
      pooling,
      ...(cacheSalt === undefined ? {} : { cacheSalt }),
      ...(traceparent === undefined ? {} : { traceparent }),
      ...(priority === undefined ? {} : { priority }),
    };
    for await (const { finish, embedding, cachedTokens } of model.backend.generate(
      request,
      signal,
      this.#routes.of(index),
    )) {
      if (finish === undefined) continue;
      this.tally.cachedTokens += cachedTokens ?? 0;
      const values = readEmbedding(embedding ?? '', pooling.dimensions);
      if (values === null) throw new Error(`${request.request} ended without its embedding`);
      return base64 && embedding !== undefined ? embedding : [...values];
    }
    throw signal.aborted ? ended(signal) : new Error(`${request.request} ended without a word`);
  }
}

function ended(signal: AbortSignal): ApiError {
  return cancelError(signal) ?? new ApiError(499, 'invalid_request_error', 'The client closed the request.');
}
