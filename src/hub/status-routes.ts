import { Hono } from 'hono';
import type { Registry } from 'prom-client';
import { adapterName } from '../protocol/adapter-name.ts';
import type { HistorySample } from '../protocol/cluster-history.ts';
import type { ClusterState } from '../protocol/cluster-state.ts';
import { summaryOf } from '../protocol/cluster-summary.ts';

export interface StatusSource {
  state(): ClusterState;
  stopping(): boolean;
  /** Whether no node serves because nodes were put to sleep. */
  sleeping(): boolean;
  readonly metrics: Registry;
  /** Oldest first. */
  history(): readonly HistorySample[];
}

/** All pages that ask within this time get one answer: they are many, and each asks once a second. */
export const SUMMARY_MS = 500;

/** All that tells how the hub is. It holds no prompts, no tokens and no secrets. */
export function statusRoutes(source: StatusSource): Hono {
  const routes = new Hono();
  routes.route('/', healthRoutes(source));
  routes.route('/', metricsRoutes(source));
  routes.get('/cluster/state', (c) => c.json(source.state(), 200, { 'cache-control': 'no-store' }));
  routes.get('/cluster/history', (c) => c.json({ samples: source.history() }, 200, { 'cache-control': 'no-store' }));
  const summary = summaryText(source);
  routes.get('/cluster/summary', (c) =>
    c.body(summary(), 200, { 'content-type': 'application/json', 'cache-control': 'no-store' }),
  );
  return routes;
}

function summaryText({ state }: StatusSource): () => string {
  let last: { at: number; text: string } | null = null;
  return () => {
    const now = Date.now();
    if (last === null || now - last.at >= SUMMARY_MS || now < last.at)
      last = { at: now, text: JSON.stringify(summaryOf(state(), now)) };
    return last.text;
  };
}

/** `/metrics`, for Prometheus. */
export function metricsRoutes(source: StatusSource): Hono {
  const routes = new Hono();
  routes.get('/metrics', async (c) =>
    c.text(await source.metrics.metrics(), 200, { 'content-type': source.metrics.contentType }),
  );
  return routes;
}

/**
 * `/live` and `/health` (every node and its stage).
 *
 * `/health` is 200 `healthy` while every model has a ready node, 200 `degraded` while some have, and 503 `unhealthy` while none has, and
 * 503 `asleep` while that is because nodes sleep, and 503 `draining` from the moment the hub stops: like Dynamo's frontend it lists endpoints and instances, but its status code can be used as a readiness probe.
 */
export function healthRoutes(source: StatusSource): Hono {
  const routes = new Hono();
  // The process lives, also while it drains: whoever restarts what is not alive must not cut its last streams.
  routes.get('/live', (c) => c.json({ status: 'live', message: 'Service is live' }));
  routes.get('/health', (c) => {
    const { namespace, models, nodes } = source.state();
    const served = models.filter((model) => model.readyNodes > 0);
    const able = served.length === 0 ? 'unhealthy' : served.length < models.length ? 'degraded' : 'healthy';
    const status = source.stopping() ? 'draining' : able === 'unhealthy' && source.sleeping() ? 'asleep' : able;
    const body = {
      status,
      message: messageOf(status, served.length, models.length),
      endpoints: served.map(({ name }) => name),
      instances: nodes.map(({ id, stage, detail, unhealthy, model, card }) => ({
        instance_id: id,
        namespace,
        status: unhealthy === null ? stage : 'unhealthy',
        detail: unhealthy ?? detail,
        model,
        role: card?.role ?? null,
        adapter: card && adapterName(card.adapter),
      })),
    };
    return c.json(body, status === 'healthy' || status === 'degraded' ? 200 : 503);
  });
  return routes;
}

function messageOf(status: string, served: number, models: number): string {
  if (status === 'draining') return 'The hub stops: requests that run end, new ones belong elsewhere';
  if (status === 'asleep') return 'The nodes sleep: POST /wake_up wakes them';
  return served === 0 ? 'No node is ready' : `${served} of ${models} models can be served`;
}
