import { Hono } from 'hono';
import { MAX_EMBEDS_CHARS } from '../protocol/prompt-embeds.ts';
import { VERSION } from '../protocol/version.ts';
import { countTokens, messagesEndpoint } from './anthropic/messages.ts';
import { type ApiEnv, type ApiOptions, report } from './api-options.ts';
import { findModel, type ServedModel } from './backend.ts';
import { readJson } from './body.ts';
import { planChat } from './chat.ts';
import { parseChatRequest } from './chat-schema.ts';
import { parseCompletionRequest } from './completion-schema.ts';
import { planCompletion } from './completions.ts';
import { serveEmbeddings } from './embedding-answer.ts';
import { errorResponse } from './error-response.ts';
import { ApiError, notFound, toApiError } from './errors.ts';
import { responsesRoutes } from './responses/routes.ts';
import { RunningRequests } from './running.ts';
import { serve } from './serve.ts';
import { detokenize, tokenize } from './tokenize.ts';

/** The OpenAI API, and Anthropic's messages (`/v1/...`), over Web types: a hub mounts it, a page calls its `fetch` without any server. */
export function createApi(options: ApiOptions): Hono<ApiEnv> {
  const api = new Hono<ApiEnv>();
  const running = new RunningRequests(options);
  api.post('/v1/chat/completions', (c) =>
    serve(c, running, options, {
      endpoint: 'chat_completions',
      idPrefix: 'chatcmpl-',
      parse: parseChatRequest,
      plan: planChat,
    }),
  );
  api.post('/v1/completions', (c) =>
    serve(c, running, options, {
      endpoint: 'completions',
      idPrefix: 'cmpl-',
      parse: (body) => parseCompletionRequest(body, options.promptEmbeds),
      moreBytes: options.promptEmbeds ? MAX_EMBEDS_CHARS : 0,
      plan: planCompletion,
    }),
  );
  api.post('/v1/embeddings', (c) => serveEmbeddings(c, running, options));
  responsesRoutes(api, running, options);
  api.post('/v1/messages', (c) => {
    const requestId = c.get('requestId') ?? c.req.header('x-request-id') ?? null;
    return serve(c, running, options, messagesEndpoint(requestId));
  });
  api.post('/v1/messages/count_tokens', async (c) =>
    c.json(countTokens(await readJson(c.req.raw, options.maxBodyBytes), options.models())),
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
  api.onError((error, c) => {
    report(error, options);
    return errorResponse(c, toApiError(error));
  });
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
      return errorResponse(c, error, { allow: allow.join(', ') });
    });
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
