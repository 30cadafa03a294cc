import type { Context } from 'hono';
import { admit } from './admission.ts';
import type { ApiEnv, ApiOptions } from './api-options.ts';
import { poolerOf } from './backend.ts';
import { parseEmbeddingRequest } from './embedding-schema.ts';
import { type EmbeddingPlan, EmbeddingRun, planEmbeddings } from './embeddings.ts';
import type { RequestMetrics, RequestOutcome } from './metrics.ts';
import { MAX_CHOICES } from './request-fields.ts';
import type { RouteReport } from './routing.ts';
import { cancelCause, type RunningRequests } from './running.ts';

/** Answers one request for embeddings. Computing stops when the client leaves, the request is cancelled or its time is over. Rejects with `ApiError`. */
export async function serveEmbeddings(
  c: Context<ApiEnv>,
  requests: RunningRequests,
  options: ApiOptions,
): Promise<Response> {
  const admission = { idPrefix: 'embd-', parse: parseEmbeddingRequest, purpose: poolerOf };
  const admitted = await admit(c, requests, options, admission);
  const { request, model, purpose: pooler, head, routes, running, arrived, requestId, traceparent } = admitted;
  try {
    const plan = await planEmbeddings(request, model, pooler, head, traceparent);
    const labels = { model: model.name, endpoint: 'embeddings', stream: false } as const;
    const metrics = options.metrics.started({ ...labels, id: head.id, requestId, traceparent });
    return await measured(plan, routes, running.signal, metrics, () => (options.now() - arrived) / 1000);
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
