import type { Context, Hono } from 'hono';
import type { ApiEnv, ApiOptions } from '../api-options.ts';
import { ApiError, badRequest } from '../errors.ts';
import type { RunningRequests } from '../running.ts';
import { serve } from '../serve.ts';
import { ResponseStore } from './response-store.ts';
import { responsesEndpoint } from './responses.ts';

const PATH = '/v1/responses';

/** /v1/responses, and the responses that are kept. */
export function responsesRoutes(api: Hono<ApiEnv>, running: RunningRequests, options: ApiOptions): void {
  const store = new ResponseStore(options.storedResponses);
  const owner = (c: Context<ApiEnv>) => c.get('apiKey') ?? null;
  api.post(PATH, (c) => serve(c, running, options, responsesEndpoint(store, owner(c), options.now)));
  api.get(`${PATH}/:id`, (c) => {
    const id = c.req.param('id');
    const [query] = Object.keys(c.req.query());
    if (query !== undefined) {
      throw badRequest(`'${query}' is not supported: a kept response is told as it is. Leave it out.`, query);
    }
    const found = store.get(id, owner(c));
    if (found === null) throw unknown(id);
    return c.json(found.response);
  });
  api.delete(`${PATH}/:id`, (c) => {
    const id = c.req.param('id');
    if (!store.delete(id, owner(c))) throw unknown(id);
    return c.json({ id, object: 'response', deleted: true });
  });
  api.post(`${PATH}/:id/cancel`, (c) => {
    const id = c.req.param('id');
    if (store.get(id, owner(c)) === null) throw unknown(id);
    throw badRequest(
      'Only responses that are computed in the background can be cancelled, and there are none here. To end a request in work, leave, or call DELETE /v1/requests/{id}.',
      'background',
    );
  });
}

function unknown(id: string): ApiError {
  const message = `No response '${id.slice(0, 255)}' is kept. It is in work, was made with "store": false or another key, was deleted, or made room for newer ones.`;
  return new ApiError(404, 'not_found_error', message, { code: 'response_not_found' });
}
