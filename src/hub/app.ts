import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { requestId } from 'hono/request-id';
import { secureHeaders } from 'hono/secure-headers';
import type { Logger } from 'pino';
import { ENDPOINT_TYPES, type EndpointType } from '../config/endpoint-types.ts';
import type { ApiEnv } from '../frontend/api-options.ts';
import { errorResponse } from '../frontend/error-response.ts';
import { ApiError, notFound, toApiError } from '../frontend/errors.ts';
import { type AccessPolicy, guard, listedOrigins, requireApiKey } from './access.ts';
import { type AdminActions, adminRoutes, requireAdmin } from './admin.ts';
import type { HubConfig } from './config.ts';
import type { LoraDesk } from './lora/lora-desk.ts';
import { loraRoutes } from './lora/lora-routes.ts';
import type { ModelFolder } from './model-folder.ts';
import { modelRoutes } from './model-routes.ts';
import { pageRoutes } from './page-routes.ts';
import { type StatusSource, statusRoutes } from './status-routes.ts';

export interface AppParts {
  readonly config: HubConfig;
  readonly policy: AccessPolicy;
  readonly api: Hono<ApiEnv>;
  readonly models: readonly ModelFolder[];
  readonly status: StatusSource;
  readonly admin: AdminActions;
  readonly loras: LoraDesk;
  readonly log: Logger;
}

const ENDPOINTS: Readonly<Record<EndpointType, string>> = {
  chat: '/v1/chat/completions',
  completions: '/v1/completions',
  embeddings: '/v1/embeddings',
  responses: '/v1/responses',
  messages: '/v1/messages',
};

/** All that the hub answers over HTTP, in the order in which a request meets it. */
export function createApp({ config, policy, api, models, status, admin, loras, log }: AppParts): Hono {
  const app = new Hono();
  app.use(requestId());
  app.use(`${ENDPOINTS.messages}/*`, messageId());
  app.use(accessLog(log));
  app.use(pageHeaders());
  app.use(guard(policy));
  app.use(listedOrigins(policy, config.cors));
  // Before the API keys: an admin shows another one.
  app.route('/', loraRoutes(requireAdmin(config.adminKey, policy), loras));
  for (const path of ['/v1/*', '/tokenize', '/detokenize']) app.use(path, requireApiKey(config.apiKeys));
  for (const type of ENDPOINT_TYPES) {
    if (!config.endpointTypes.includes(type)) app.all(`${ENDPOINTS[type]}/*`, (c) => closedEndpoint(c, type));
  }
  app.route('/', api);
  app.route('/', adminRoutes(config.adminKey, policy, admin));
  app.route('/', statusRoutes(status));
  app.route('/', modelRoutes(models, config.joinToken, loras));
  app.route('/', pageRoutes(config.staticDir));
  app.notFound((c) => errorResponse(c, notFound(c.req.method, c.req.path)));
  app.onError((error, c) => {
    log.error({ err: error, requestId: c.get('requestId') }, 'a request failed inside the hub');
    return errorResponse(c, toApiError(error));
  });
  return app;
}

function closedEndpoint(c: Context, type: EndpointType): Response {
  const message = `This hub does not serve ${ENDPOINTS[type]}. Start it with "${type}" among --endpoint-types.`;
  return errorResponse(c, new ApiError(404, 'not_found_error', message, { code: 'not_found' }));
}

/** Anthropic's clients know the id of a request by another name. */
function messageId(): MiddlewareHandler {
  return async (c, next) => {
    await next();
    c.res.headers.set('request-id', c.get('requestId'));
  };
}

/** Nothing from elsewhere runs in the hub's page, and the page runs in nobody's frame. */
function pageHeaders(): MiddlewareHandler {
  return secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'self'"],
      // The hash library compiles WebAssembly.
      scriptSrc: ["'self'", "'wasm-unsafe-eval'"],
      imgSrc: ["'self'", 'data:'],
      // The quiet tone that keeps a hidden tab awake.
      mediaSrc: ["'self'", 'data:', 'blob:'],
      objectSrc: ["'none'"],
      baseUri: ["'none'"],
      formAction: ["'self'"],
      frameAncestors: ["'none'"],
    },
    xFrameOptions: 'DENY',
    referrerPolicy: 'no-referrer',
    // A self-signed hub on localhost must not force https onto everything else there.
    strictTransportSecurity: false,
  });
}

/** One line a request, without bodies and without query: prompts and keys stay out of logs. */
function accessLog(log: Logger): MiddlewareHandler {
  return async (c, next) => {
    const began = performance.now();
    await next();
    const ms = Math.round(performance.now() - began);
    const fields = { requestId: c.get('requestId'), method: c.req.method, status: c.res.status, ms };
    log.debug(fields, c.req.path.startsWith('/models/') ? '/models/' : c.req.path);
  };
}
