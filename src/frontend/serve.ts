import type { Context } from 'hono';
import { readTraceparent } from '../protocol/traceparent.ts';
import { answer } from './answer.ts';
import { type ApiEnv, type ApiOptions, report } from './api-options.ts';
import { checkGenerates, findModel, type ServedModel } from './backend.ts';
import { readJson } from './body.ts';
import { badRequest } from './errors.ts';
import type { GenerationPlan } from './generation.ts';
import type { RequestLabels } from './metrics.ts';
import type { SharedFields } from './request-fields.ts';
import type { ResponseHead, ResponseShape } from './response.ts';
import { type Nvext, RouteReport, routeWish } from './routing.ts';
import { type RunningRequests, requestTimeout } from './running.ts';

/** What a request computes, and how its answer is written. */
export interface Plan {
  readonly plan: GenerationPlan;
  readonly shape: ResponseShape;
}

/** The fields by which any request for tokens is served. */
export interface GenerationRequest {
  readonly model: string;
  readonly stream?: boolean | undefined;
  readonly stream_options?: SharedFields['stream_options'];
  readonly priority?: number | undefined;
  readonly nvext?: Nvext | undefined;
}

/** A call that makes tokens. */
export interface Endpoint<T extends GenerationRequest> {
  readonly endpoint: RequestLabels['endpoint'];
  /** What the ids of its answers begin with. */
  readonly idPrefix: string;
  /** Of a body, beyond `maxBodyBytes`. */
  readonly moreBytes?: number;
  /** Checks a body. Throws `ApiError` 400 that names the field at fault. */
  parse(body: unknown): T;
  plan(request: T, model: ServedModel, head: ResponseHead, drawSeed: () => [number, number]): Plan | Promise<Plan>;
}

/** Answers one request for tokens. Rejects with `ApiError` until the answer has begun. */
export async function serve<T extends GenerationRequest>(
  c: Context<ApiEnv>,
  requests: RunningRequests,
  options: ApiOptions,
  endpoint: Endpoint<T>,
): Promise<Response> {
  const { raw } = c.req;
  const arrived = options.now();
  const timeout = requestTimeout(raw.headers.get('x-request-timeout'));
  const request = endpoint.parse(await readJson(raw, options.maxBodyBytes + (endpoint.moreBytes ?? 0)));
  const model = findModel(options.models(), request.model);
  checkGenerates(model);
  const stream = request.stream ?? false;
  checkPriority(request, options);
  const routes = new RouteReport(routeWish(raw.headers, request.nvext));
  const head = {
    id: `${endpoint.idPrefix}${crypto.randomUUID()}`,
    created: Math.floor(arrived / 1000),
    model: model.name,
  };
  const traceparent = readTraceparent(raw.headers.get('traceparent'));
  const named = c.get('requestId') ?? raw.headers.get('x-request-id');
  const ids = named === null ? [head.id] : [head.id, named];
  const running = requests.begin(ids, c.get('apiKey') ?? null, raw.signal, timeout);
  try {
    const { plan, shape } = await endpoint.plan(request, model, head, options.drawSeed);
    return await answer({
      plan: { ...plan, traceparent },
      shape,
      endpoint: endpoint.endpoint,
      routes,
      extraFields: request.nvext?.extra_fields,
      stream,
      continuousUsage: request.stream_options?.continuous_usage_stats ?? false,
      requestId: named,
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

/** Throws `ApiError` 400 for a priority where requests have none. */
export function checkPriority(
  { priority = 0 }: Pick<GenerationRequest, 'priority'>,
  { priorities }: Pick<ApiOptions, 'priorities'>,
): void {
  if (priorities || priority === 0) return;
  const message = `Got 'priority' ${priority}, but requests are served first come first served here: start the server with --scheduling-policy priority.`;
  throw badRequest(message, 'priority');
}
