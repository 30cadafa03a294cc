import { isIP } from 'node:net';
import { getConnInfo } from '@hono/node-server/conninfo';
import { type Context, Hono, type MiddlewareHandler } from 'hono';
import * as z from 'zod';
import { ApiError, badRequest } from '../frontend/errors.ts';
import { type AccessPolicy, bearer } from './access.ts';
import type { NodeReport, SleepOrder } from './sleep.ts';
import { sameSecret } from './ticket.ts';

/** What an admin may do to a running hub. */
export interface AdminActions {
  /** Returns how many nodes forget their prefix caches now. */
  resetPrefixCaches(): number;
  /** `node`: id of the one meant; null = all, and those that join later. Throws `ApiError`. */
  sleep(order: SleepOrder, node: string | null): Promise<NodeReport[]>;
  wake(node: string | null): Promise<NodeReport[]>;
  isSleeping(node: string | null): boolean;
}

const SleepQuery = z.object({
  level: z.enum(['1', '2']).default('1'),
  mode: z.enum(['wait', 'abort']).default('wait'),
  node: z.string().optional(),
});
/** vLLM wakes the ones or the others; here all that a node computes with comes back together. */
const TAGS = new Set(['weights', 'kv_cache']);

/** Calls that change what all callers of the hub get. Names are vLLM's. */
export function adminRoutes(key: string | null, policy: AccessPolicy, actions: AdminActions): Hono {
  const routes = new Hono();
  const admin = requireAdmin(key, policy);
  routes.post('/reset_prefix_cache', admin, (c) => {
    for (const name of ['reset_running_requests', 'reset_external']) {
      const value = c.req.query(name) ?? 'false';
      if (value.toLowerCase() !== 'false')
        throw badRequest(
          `'${name}' is not supported: what runs keeps its blocks, and nothing is cached elsewhere.`,
          name,
        );
    }
    return c.json({ nodes: actions.resetPrefixCaches() });
  });
  routes.post('/sleep', admin, async (c) => {
    const { level, mode, node } = parseQuery(SleepQuery, c.req.query());
    const order: SleepOrder = { level: level === '1' ? 1 : 2, mode };
    return c.json({ nodes: await actions.sleep(order, node ?? null) });
  });
  routes.post('/wake_up', admin, async (c) => {
    const tags = new Set(c.req.queries('tags'));
    if (tags.size > 0 && (tags.size < TAGS.size || [...tags].some((tag) => !TAGS.has(tag)))) {
      const message = `'tags' of ${[...tags].map((tag) => `'${tag.slice(0, 40)}'`).join(' and ')} alone is not supported: weights and kv_cache wake up together. Leave it out.`;
      throw badRequest(message, 'tags');
    }
    return c.json({ nodes: await actions.wake(c.req.query('node') ?? null) });
  });
  routes.get('/is_sleeping', admin, (c) => c.json({ is_sleeping: actions.isSleeping(c.req.query('node') ?? null) }));
  routes.onError((error) => {
    if (!(error instanceof ApiError)) throw error;
    return Response.json(error.body(), { status: error.status });
  });
  return routes;
}

function parseQuery<T>(schema: z.ZodType<T>, query: Record<string, string>): T {
  const parsed = schema.safeParse(query);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const name = String(issue?.path[0] ?? '');
  throw badRequest(`'${name}': ${issue?.message}`, name);
}

/**
 * Lets through who may administer this hub: with an admin key whoever sends it as `Authorization: Bearer`, from wherever; without one whoever
 * is on this machine, by the address of the socket, and is no page of another origin. API keys do not count.
 */
export function requireAdmin(key: string | null, policy: AccessPolicy): MiddlewareHandler {
  return async (c, next) => {
    const refusal = key === null ? fromElsewhere(c, policy) : wrongKey(c, key);
    return refusal === null ? await next() : Response.json(refusal.body(), { status: refusal.status });
  };
}

function wrongKey(c: Context, key: string): ApiError | null {
  if (sameSecret(key, bearer(c.req.header('authorization')))) return null;
  const message =
    'The admin key is missing or wrong; an API key is none. Send the --admin-key of the hub as "Authorization: Bearer <key>".';
  return new ApiError(401, 'authentication_error', message, { code: 'invalid_admin_key' });
}

/** Headers of proxies: what comes with one comes from elsewhere, whatever the socket says. */
const FORWARDED = ['forwarded', 'x-forwarded-for', 'via'];

function fromElsewhere(c: Context, policy: AccessPolicy): ApiError | null {
  const forbidden = (why: string) => {
    const rest = 'This hub has no admin key, so only its own machine may. Start it with --admin-key to let others.';
    return new ApiError(403, 'invalid_request_error', `${why} ${rest}`, { code: 'forbidden' });
  };
  if (!isLoopbackAddress(getConnInfo(c).remote.address ?? '')) return forbidden('The call comes from another machine.');
  const proxy = FORWARDED.find((name) => c.req.header(name) !== undefined);
  if (proxy !== undefined) return forbidden(`The call came through a proxy: it has the header ${proxy}.`);
  if (!policy.originOwn(c.req.header('origin'), c.req.header('host')))
    return forbidden('The call comes from a page of another origin.');
  return null;
}

/** 127.0.0.0/8 and ::1, also as IPv6 sockets write the former. */
function isLoopbackAddress(address: string): boolean {
  const plain = address.replace(/^::ffff:/i, '');
  return isIP(plain) === 4 ? plain.startsWith('127.') : plain === '::1';
}
