import type { Context } from 'hono';
import { readTraceparent } from '../protocol/traceparent.ts';
import type { ApiEnv, ApiOptions } from './api-options.ts';
import { findModel, type ServedModel } from './backend.ts';
import { readJson } from './body.ts';
import { badRequest } from './errors.ts';
import type { ResponseHead } from './response.ts';
import { type Nvext, RouteReport, routeWish } from './routing.ts';
import { type RunningRequest, type RunningRequests, requestTimeout } from './running.ts';

/** The fields that any request to a model may have. */
export interface ModelRequest {
  readonly model: string;
  readonly priority?: number | undefined;
  readonly nvext?: Nvext | undefined;
}

/** How requests of one kind are taken in. */
export interface Admission<T extends ModelRequest, P> {
  /** What the ids of its answers begin with. */
  readonly idPrefix: string;
  /** Of a body, beyond `maxBodyBytes`. */
  readonly moreBytes?: number;
  /** Checks a body. Throws `ApiError` 400 that names the field at fault. */
  parse(body: unknown): T;
  /** What the model has for such requests. Throws `ApiError` 400 where it is none for them. */
  purpose(model: ServedModel): P;
}

/** A request that is in work until `running` ends. */
export interface Admitted<T extends ModelRequest, P> {
  readonly request: T;
  readonly model: ServedModel;
  readonly purpose: P;
  readonly head: ResponseHead;
  readonly routes: RouteReport;
  readonly running: RunningRequest;
  /** When it came, in the milliseconds of `ApiOptions.now`. */
  readonly arrived: number;
  /** Its `x-request-id`. */
  readonly requestId: string | null;
  readonly traceparent: string | undefined;
}

/** Reads and checks a request, and counts it among the running ones. Rejects with `ApiError`. */
export async function admit<T extends ModelRequest, P>(
  c: Context<ApiEnv>,
  requests: RunningRequests,
  options: ApiOptions,
  { idPrefix, moreBytes = 0, parse, purpose: purposeOf }: Admission<T, P>,
): Promise<Admitted<T, P>> {
  const { raw } = c.req;
  const arrived = options.now();
  const timeout = requestTimeout(raw.headers.get('x-request-timeout'));
  const request = parse(await readJson(raw, options.maxBodyBytes + moreBytes));
  const model = findModel(options.models(), request.model);
  const purpose = purposeOf(model);
  checkPriority(request, options);
  const routes = new RouteReport(routeWish(raw.headers, request.nvext));
  const head = { id: `${idPrefix}${crypto.randomUUID()}`, created: Math.floor(arrived / 1000), model: model.name };
  const traceparent = readTraceparent(raw.headers.get('traceparent'));
  const requestId = c.get('requestId') ?? raw.headers.get('x-request-id');
  const ids = requestId === null ? [head.id] : [head.id, requestId];
  const running = requests.begin(ids, c.get('apiKey') ?? null, raw.signal, timeout);
  return { request, model, purpose, head, routes, running, arrived, requestId, traceparent };
}

/** Throws `ApiError` 400 for a priority where requests have none. */
function checkPriority({ priority = 0 }: ModelRequest, { priorities }: ApiOptions): void {
  if (priorities || priority === 0) return;
  const message = `Got 'priority' ${priority}, but requests are served first come first served here: start the server with --scheduling-policy priority.`;
  throw badRequest(message, 'priority');
}
