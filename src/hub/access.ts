import { isIP } from 'node:net';
import type { Context, MiddlewareHandler } from 'hono';
import { cors } from 'hono/cors';
import type { ApiEnv } from '../frontend/api-options.ts';
import { errorResponse } from '../frontend/error-response.ts';
import { ApiError } from '../frontend/errors.ts';
import type { CorsConfig, HubConfig } from './config.ts';
import { sameSecret } from './ticket.ts';

const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];
const HOST = /^([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?$/i;
const ALL_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const SAFE_METHODS = new Set(['GET', 'HEAD']);

/** Who may call this hub from where, by the headers that a browser sets and a page cannot. */
export class AccessPolicy {
  readonly #hosts: ReadonlySet<string>;
  readonly #origins: ReadonlySet<string>;
  readonly #anyAddress: boolean;

  constructor(config: Pick<HubConfig, 'host' | 'allowedHosts' | 'allowedOrigins'>) {
    const named = (host: string) => hostName(isIP(host) === 6 ? `[${host}]` : host) ?? '';
    const bound = named(config.host);
    this.#hosts = new Set([...LOOPBACK, bound, ...config.allowedHosts.map(named)]);
    this.#origins = new Set(config.allowedOrigins);
    this.#anyAddress = !LOOPBACK.includes(bound);
  }

  /**
   * Against DNS rebinding: a foreign page whose name was turned to this machine still sends its own name. An address in place of a
   * name cannot be turned, so a hub that is open to the network takes every address.
   */
  hostAllowed(host: string | undefined): boolean {
    const name = hostName(host ?? '');
    if (name === null) return false;
    return this.#hosts.has(name) || (this.#anyAddress && isIP(name.replace(/^\[|\]$/g, '')) !== 0);
  }

  /** Without an Origin header the caller is no browser (or a plain GET), and holds the person's own rights. */
  originAllowed(origin: string | undefined, host: string | undefined): boolean {
    return this.originOwn(origin, host) || (origin !== undefined && this.originListed(origin));
  }

  /** No browser, or a page of the hub itself; a listed origin is neither. */
  originOwn(origin: string | undefined, host: string | undefined): boolean {
    return origin === undefined || sameOrigin(origin, host ?? '');
  }

  originListed(origin: string): boolean {
    return this.#origins.has('*') || this.#origins.has(origin);
  }
}

/** Refuses requests that a foreign web page sent or steered. First of all handlers. */
export function guard(policy: AccessPolicy): MiddlewareHandler {
  return async (c, next) => {
    const host = c.req.header('host');
    const origin = c.req.header('origin');
    if (!policy.hostAllowed(host)) {
      return refused(c, wrongHost(host));
    }
    if (!SAFE_METHODS.has(c.req.method) && !policy.originAllowed(origin, host)) {
      return refused(c, wrongOrigin(origin));
    }
    return await next();
  };
}

/** CORS answers for listed origins only; a page of the hub itself needs none. */
export function listedOrigins(policy: AccessPolicy, { credentials, methods, headers }: CorsConfig): MiddlewareHandler {
  return cors({
    origin: (origin) => (policy.originListed(origin) ? origin : null),
    allowMethods: methods.includes('*') ? ALL_METHODS : [...methods],
    // None = those that the browser asks for.
    allowHeaders: headers.includes('*') ? [] : [...headers],
    credentials,
    exposeHeaders: [
      'x-request-id',
      'request-id',
      'x-quire-node',
      'x-quire-dp-rank',
      'x-quire-overlap-blocks',
      'x-quire-prefill-node',
      'retry-after',
      'content-range',
      'etag',
    ],
    maxAge: 600,
  });
}

/** `Authorization: Bearer <key>`, or Anthropic's `x-api-key`, with one of the keys; no keys = open. */
export function requireApiKey(keys: readonly string[]): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const given = bearer(c.req.header('authorization')) || (c.req.header('x-api-key') ?? '');
    if (keys.length === 0) return await next();
    // All of them are compared, so that the time tells nothing of which one it was.
    if (keys.filter((key) => sameSecret(key, given)).length > 0) {
      c.set('apiKey', given);
      return await next();
    }
    const message =
      'The API key is missing or wrong. Send it as "Authorization: Bearer <key>" or as "x-api-key"; the hub printed it when it started.';
    const error = new ApiError(401, 'authentication_error', message, { code: 'invalid_api_key' });
    return errorResponse(c, error, { 'www-authenticate': 'Bearer' });
  };
}

/** The key of an Authorization header; empty where there is none. */
export function bearer(authorization: string | undefined): string {
  return /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1] ?? '';
}

export function wrongHost(host: string | undefined): string {
  return `This hub does not answer to the name ${JSON.stringify(host ?? '')}. Start it with --allowed-hosts to add the name.`;
}

export function wrongOrigin(origin: string | undefined): string {
  return `Pages of ${origin} may not call this hub. Start it with --allowed-origins to let them.`;
}

function refused(c: Context, message: string): Response {
  if (c.req.method === 'HEAD') return new Response(null, { status: 403 });
  return errorResponse(c, new ApiError(403, 'invalid_request_error', message, { code: 'forbidden' }));
}

/** Lower-case name or address of a Host header, without port. null where it is none. */
function hostName(host: string): string | null {
  return HOST.exec(host)?.[1]?.toLowerCase() ?? null;
}

/** Same name and port. The scheme is not compared: behind a proxy that ends TLS the hub sees plain http. */
function sameOrigin(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const { protocol, host: from } = new URL(origin);
  return URL.canParse(`${protocol}//${host}`) && new URL(`${protocol}//${host}`).host === from;
}
