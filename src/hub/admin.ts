import { isIP } from 'node:net';
import { getConnInfo } from '@hono/node-server/conninfo';
import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { ApiError, badRequest } from '../frontend/errors.ts';
import { type AccessPolicy, bearer } from './access.ts';
import { sameSecret } from './ticket.ts';

/** What an admin may do to a running hub. */
export interface AdminActions {
  /** Returns how many nodes forget their prefix caches now. */
  resetPrefixCaches(): number;
}

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
  routes.onError((error) => {
    if (!(error instanceof ApiError)) throw error;
    return Response.json(error.body(), { status: error.status });
  });
  return routes;
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
