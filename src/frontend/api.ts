import { Hono } from 'hono';
import type { ServedModel } from './backend.ts';
import { ApiError, toApiError } from './errors.ts';
import type { FrontendMetrics } from './metrics.ts';

export interface ApiOptions {
  /** The models served now; asked on every request. */
  models(): readonly ServedModel[];
  readonly maxBodyBytes: number;
  /** A fresh 64-bit seed as [low, high] u32, for requests that bring none. */
  drawSeed(): [number, number];
  /** Milliseconds since the epoch (`Date.now`). */
  now(): number;
  readonly metrics: FrontendMetrics;
  /** Told of every error that is answered as a 500, for the log; must not throw. */
  internalError(error: unknown): void;
}

/** The OpenAI API (`/v1/...`) over Web types: a hub mounts it, a page calls its `fetch` without any server. */
export function createApi(options: ApiOptions): Hono {
  const api = new Hono();
  api.get('/v1/models', (c) => c.json({ object: 'list', data: options.models().map(modelCard) }));
  // The name of a model may hold slashes (`org/name`).
  api.get('/v1/models/:name{.+}', (c) => c.json(modelCard(findModel(options.models(), c.req.param('name')))));
  api.all('/v1/*', (c) => {
    throw new ApiError(404, 'not_found_error', `There is no ${c.req.method} ${c.req.path} here.`, {
      code: 'not_found',
    });
  });
  api.onError((error) => errorResponse(error, options));
  return api;
}

function modelCard(model: ServedModel) {
  return {
    id: model.name,
    object: 'model',
    created: model.created,
    owned_by: 'quire',
    root: model.name,
    parent: null,
    max_model_len: model.maxModelLen(),
  };
}

function findModel(models: readonly ServedModel[], name: string): ServedModel {
  const model = models.find((candidate) => candidate.name === name);
  if (model !== undefined) return model;
  const known = models.map((candidate) => `'${candidate.name}'`).join(', ');
  throw new ApiError(404, 'not_found_error', `The model '${name}' does not exist. This server has: ${known}.`, {
    code: 'model_not_found',
    param: 'model',
  });
}

function errorResponse(error: unknown, options: ApiOptions): Response {
  const answer = toApiError(error);
  if (answer.status === 500) options.internalError(error);
  const retry = answer.retryAfter === null ? {} : { 'retry-after': String(answer.retryAfter) };
  return Response.json(answer.body(), { status: answer.status, headers: retry });
}
