import { type Context, Hono } from 'hono';
import type { Clock } from '../protocol/clock.ts';
import { MAX_EMBEDS_CHARS } from '../protocol/prompt-embeds.ts';
import { readTraceparent } from '../protocol/traceparent.ts';
import { VERSION } from '../protocol/version.ts';
import { answer } from './answer.ts';
import { findModel, type ServedModel } from './backend.ts';
import { readJson } from './body.ts';
import { planChat } from './chat.ts';
import { parseChatRequest } from './chat-schema.ts';
import { parseCompletionRequest } from './completion-schema.ts';
import { planCompletion } from './completions.ts';
import { ApiError, badRequest, notFound, toApiError } from './errors.ts';
import type { GenerationPlan } from './generation.ts';
import type { FrontendMetrics, RequestLabels } from './metrics.ts';
import type { SharedFields } from './request-fields.ts';
import type { ResponseHead, ResponseShape } from './response.ts';
import { RouteReport, routeWish } from './routing.ts';
import { RunningRequests, requestTimeout } from './running.ts';
import { detokenize, tokenize } from './tokenize.ts';

export interface ApiOptions {
  /** The models served now; asked on every request. */
  models(): readonly ServedModel[];
  readonly maxBodyBytes: number;
  /** Whether requests may have `prompt_embeds` (`--enable-prompt-embeds`); their bodies may be longer by as much as those take. */
  readonly promptEmbeds: boolean;
  /** A fresh 64-bit seed as [low, high] u32, for requests that bring none. */
  drawSeed(): [number, number];
  /** Milliseconds since the epoch (`Date.now`). */
  now(): number;
  readonly after: Clock['after'];
  /** Most seconds of a request, from its arrival to its last byte; null = as long as it takes. */
  readonly timeoutSeconds: number | null;
  /** Seconds of silence after which a stream gets a comment, so that nothing between server and client takes it for dead; null = none. */
  readonly keepAliveSeconds: number | null;
  readonly metrics: FrontendMetrics;
  /** Whether requests may have another `priority` than 0 (`--scheduling-policy priority`). */
  readonly priorities: boolean;
  /** Told of every error that is answered as a 500, for the log; must not throw. */
  internalError(error: unknown): void;
}

/** What whoever mounts the API may have set for a request: its id, and the key that it showed. */
export interface ApiEnv {
  Variables: { requestId?: string; apiKey?: string };
}

/** The OpenAI API (`/v1/...`) over Web types: a hub mounts it, a page calls its `fetch` without any server. */
export function createApi(options: ApiOptions): Hono<ApiEnv> {
  const api = new Hono<ApiEnv>();
  const running = new RunningRequests(options);
  api.post('/v1/chat/completions', (c) =>
    serve(c, running, options, {
      endpoint: 'chat_completions',
      idPrefix: 'chatcmpl',
      parse: parseChatRequest,
      plan: planChat,
    }),
  );
  api.post('/v1/completions', (c) =>
    serve(c, running, options, {
      endpoint: 'completions',
      idPrefix: 'cmpl',
      parse: (body) => parseCompletionRequest(body, options.promptEmbeds),
      moreBytes: options.promptEmbeds ? MAX_EMBEDS_CHARS : 0,
      plan: planCompletion,
    }),
  );
  api.get('/v1/models', (c) => c.json({ object: 'list', data: options.models().map(modelCard) }));
  // The name of a model may hold slashes (`org/name`).
  api.get('/v1/models/:name{.+}', (c) => c.json(modelCard(findModel(options.models(), c.req.param('name')))));
  api.post('/tokenize', async (c) =>
    c.json(tokenize(await readJson(c.req.raw, options.maxBodyBytes), options.models())),
  );
  api.post('/detokenize', async (c) =>
    c.json(detokenize(await readJson(c.req.raw, options.maxBodyBytes), options.models())),
  );
  api.get('/version', (c) => c.json({ version: VERSION }));
  api.delete('/v1/requests/:id', (c) => {
    const id = c.req.param('id');
    if (running.cancel(id, c.get('apiKey') ?? null)) return c.json({ id, object: 'request', status: 'cancelled' });
    const message = `No request '${id.slice(0, 255)}' is in work. It has ended, or its id is another: an answer's 'id', or the header 'x-request-id'.`;
    throw new ApiError(404, 'not_found_error', message, { code: 'request_not_found' });
  });
  refuseOtherMethods(api);
  api.all('/v1/*', (c) => {
    throw notFound(c.req.method, c.req.path);
  });
  api.onError((error) => errorResponse(error, options));
  return api;
}

/** 405 for each path above, asked by a method that it does not have. */
function refuseOtherMethods(api: Hono<ApiEnv>): void {
  const methods = new Map<string, string[]>();
  for (const { path, method } of api.routes) methods.set(path, [...(methods.get(path) ?? []), method]);
  for (const [path, known] of methods) {
    const allow = known.includes('GET') ? [...known, 'HEAD'] : known;
    api.all(path, (c) => {
      const message = `${c.req.path.slice(0, 200)} takes ${allow.join(' and ')}, not ${c.req.method}.`;
      const error = new ApiError(405, 'invalid_request_error', message, { code: 'method_not_allowed' });
      return Response.json(error.body(), { status: 405, headers: { allow: allow.join(', ') } });
    });
  }
}

interface Plan {
  readonly plan: GenerationPlan;
  readonly shape: ResponseShape;
}

interface Endpoint<T extends SharedFields> {
  readonly endpoint: RequestLabels['endpoint'];
  readonly idPrefix: string;
  /** Of a body, beyond `maxBodyBytes`. */
  readonly moreBytes?: number;
  parse(body: unknown): T;
  plan(request: T, model: ServedModel, head: ResponseHead, drawSeed: () => [number, number]): Plan | Promise<Plan>;
}

async function serve<T extends SharedFields>(
  c: Context<ApiEnv>,
  requests: RunningRequests,
  options: ApiOptions,
  endpoint: Endpoint<T>,
): Promise<Response> {
  const { raw } = c.req;
  const arrived = options.now();
  const timeout = requestTimeout(raw.headers.get('x-request-timeout'));
  const request = endpoint.parse(await readJson(raw, options.maxBodyBytes + (endpoint.moreBytes ?? 0)));
  const model = findModel(options.models(), request.model);
  const stream = request.stream ?? false;
  checkStreaming(request, stream);
  if (!options.priorities && (request.priority ?? 0) !== 0) {
    const message = `Got 'priority' ${request.priority}, but requests are served first come first served here: start the server with --scheduling-policy priority.`;
    throw badRequest(message, 'priority');
  }
  const routes = new RouteReport(routeWish(raw.headers, request.nvext));
  const head = {
    id: `${endpoint.idPrefix}-${crypto.randomUUID()}`,
    created: Math.floor(arrived / 1000),
    model: model.name,
  };
  const traceparent = readTraceparent(raw.headers.get('traceparent'));
  const named = c.get('requestId') ?? raw.headers.get('x-request-id');
  const ids = named === null ? [head.id] : [head.id, named];
  const running = requests.begin(ids, c.get('apiKey') ?? null, raw.signal, timeout);
  try {
    const { plan, shape } = await endpoint.plan(request, model, head, options.drawSeed);
    return await answer({
      plan: { ...plan, traceparent },
      shape,
      endpoint: endpoint.endpoint,
      routes,
      extraFields: request.nvext?.extra_fields,
      stream,
      includeUsage: request.stream_options?.include_usage ?? false,
      continuousUsage: request.stream_options?.continuous_usage_stats ?? false,
      requestId: named,
      keepAliveSeconds: options.keepAliveSeconds,
      running,
      arrived,
      now: options.now,
      after: options.after,
      metrics: options.metrics,
      failed: (error) => report(error, options),
    });
  } catch (error) {
    running.ended();
    throw error;
  }
}

function checkStreaming(request: SharedFields, stream: boolean): void {
  if (!stream && request.stream_options !== undefined) {
    throw badRequest("'stream_options' needs 'stream': true.", 'stream_options');
  }
  if (request.stream_options?.continuous_usage_stats === true && request.stream_options.include_usage !== true) {
    const field = 'stream_options.continuous_usage_stats';
    throw badRequest(`'${field}' needs 'stream_options.include_usage': true.`, field);
  }
  if (stream && request.prompt_logprobs !== undefined) {
    throw badRequest("'prompt_logprobs' cannot be streamed: send 'stream': false.", 'prompt_logprobs');
  }
}

function modelCard(model: ServedModel) {
  return {
    id: model.name,
    object: 'model',
    created: model.created,
    owned_by: 'quire',
    root: model.name,
    parent: model.parent,
    max_model_len: model.maxModelLen(),
  };
}

function errorResponse(error: unknown, options: ApiOptions): Response {
  report(error, options);
  const told = toApiError(error);
  const retry = told.retryAfter === null ? {} : { 'retry-after': String(told.retryAfter) };
  // The official clients would ask for the same, with the same time for it, twice more.
  const once = told.status === 504 ? { 'x-should-retry': 'false' } : {};
  return Response.json(told.body(), { status: told.status, headers: { ...retry, ...once } });
}

function report(error: unknown, options: ApiOptions): void {
  if (toApiError(error).status === 500) options.internalError(error);
}
