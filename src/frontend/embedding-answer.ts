import type { Context } from 'hono';
import { readTraceparent } from '../protocol/traceparent.ts';
import type { ApiEnv, ApiOptions } from './api-options.ts';
import { findModel, poolerOf } from './backend.ts';
import { readJson } from './body.ts';
import { parseEmbeddingRequest } from './embedding-schema.ts';
import { type EmbeddingPlan, EmbeddingRun, planEmbeddings } from './embeddings.ts';
import type { RequestMetrics, RequestOutcome } from './metrics.ts';
import { MAX_CHOICES } from './request-fields.ts';
import { RouteReport, routeWish } from './routing.ts';
import { cancelCause, type RunningRequests, requestTimeout } from './running.ts';
import { checkPriority } from './serve.ts';

/** Answers one request for embeddings. Computing stops when the client leaves, the request is cancelled or its time is over. Rejects with `ApiError`. */
export async function serveEmbeddings(
  c: Context<ApiEnv>,
  requests: RunningRequests,
  options: ApiOptions,
): Promise<Response> {
  const { raw } = c.req;
  const { now } = options;
  const arrived = now();
  const timeout = requestTimeout(raw.headers.get('x-request-timeout'));
  const request = parseEmbeddingRequest(await readJson(raw, options.maxBodyBytes));
  const model = findModel(options.models(), request.model);
  const pooler = poolerOf(model);
  checkPriority(request, options);
  const routes = new RouteReport(routeWish(raw.headers, undefined));
  const head = { id: `embd-${crypto.randomUUID()}`, created: Math.floor(arrived / 1000), model: model.name };
  const traceparent = readTraceparent(raw.headers.get('traceparent'));
  const requestId = c.get('requestId') ?? raw.headers.get('x-request-id');
  const ids = requestId === null ? [head.id] : [head.id, requestId];
  const running = requests.begin(ids, c.get('apiKey') ?? null, raw.signal, timeout);
  try {
    const plan = await planEmbeddings(request, model, pooler, head, traceparent);
    const labels = { model: model.name, endpoint: 'embeddings', stream: false } as const;
    const metrics = options.metrics.started({ ...labels, id: head.id, requestId, traceparent });
    return await measured(plan, routes, running.signal, metrics, () => (now() - arrived) / 1000);
  } finally {
    running.ended();
  }
}

async function measured(
  plan: EmbeddingPlan,
  routes: RouteReport,
  signal: AbortSignal,
  metrics: RequestMetrics,
  seconds: () => number,
): Promise<Response> {
  const run = new EmbeddingRun(plan, routes);
  let status: RequestOutcome['status'] = 'error';
  try {
    const body = await run.answer(signal);
    status = 'success';
    // One entry an input: more than so many would be longer than clients take headers.
    return Response.json(body, { headers: plan.prompts.length <= MAX_CHOICES ? routes.headers() : {} });
  } finally {
    const cause = cancelCause(signal);
    const { promptTokens, cachedTokens } = run.tally;
    metrics.finished({
      ...{ status: cause === null ? status : 'cancelled', cause, seconds: seconds() },
      ...{ promptTokens, cachedTokens, completionTokens: 0 },
    });
  }
}
