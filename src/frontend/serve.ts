import type { Context } from 'hono';
import { type Admission, admit, type ModelRequest } from './admission.ts';
import { answer } from './answer.ts';
import { type ApiEnv, type ApiOptions, report } from './api-options.ts';
import { checkGenerates, type ServedModel } from './backend.ts';
import type { GenerationPlan } from './generation.ts';
import type { RequestLabels } from './metrics.ts';
import type { SharedFields } from './request-fields.ts';
import type { ResponseHead, ResponseShape } from './response.ts';
import type { RunningRequests } from './running.ts';

/** What a request computes, and how its answer is written. */
export interface Plan {
  readonly plan: GenerationPlan;
  readonly shape: ResponseShape;
}

/** The fields by which any request for tokens is served. */
export interface GenerationRequest extends ModelRequest {
  readonly stream?: boolean | undefined;
  readonly stream_options?: SharedFields['stream_options'];
}

/** A call that makes tokens. */
export interface Endpoint<T extends GenerationRequest> extends Omit<Admission<T, void>, 'purpose'> {
  readonly endpoint: RequestLabels['endpoint'];
  plan(request: T, model: ServedModel, head: ResponseHead, drawSeed: () => [number, number]): Plan | Promise<Plan>;
}

/** Answers one request for tokens. Rejects with `ApiError` until the answer has begun. */
export async function serve<T extends GenerationRequest>(
  c: Context<ApiEnv>,
  requests: RunningRequests,
  options: ApiOptions,
  endpoint: Endpoint<T>,
): Promise<Response> {
  const admitted = await admit(c, requests, options, { ...endpoint, purpose: checkGenerates });
  const { request, model, head, routes, running, arrived, requestId, traceparent } = admitted;
  try {
    const { plan, shape } = await endpoint.plan(request, model, head, options.drawSeed);
    return await answer({
      plan: { ...plan, traceparent },
      shape,
      endpoint: endpoint.endpoint,
      routes,
      extraFields: request.nvext?.extra_fields,
      stream: request.stream ?? false,
      continuousUsage: request.stream_options?.continuous_usage_stats ?? false,
      requestId,
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
