import type { Context } from 'hono';
import { errorBody } from './anthropic/error-body.ts';
import type { ApiError } from './errors.ts';

/** Whether a path is of Anthropic's API. */
const isMessagesPath = (path: string) => /^\/v1\/messages(\/|$)/.test(path);

/** An error in the form of the API that was called. */
export function errorResponse(c: Context, error: ApiError, headers: Record<string, string> = {}): Response {
  const requestId: string | undefined = c.get('requestId');
  const body = isMessagesPath(c.req.path) ? errorBody(error, requestId ?? null) : error.body();
  const retry = error.retryAfter === null ? {} : { 'retry-after': String(error.retryAfter) };
  // The official clients would ask for the same, with the same time for it, twice more.
  const once = error.status === 504 ? { 'x-should-retry': 'false' } : {};
  return Response.json(body, { status: error.status, headers: { ...retry, ...once, ...headers } });
}
