import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { type AccessPolicy, guard } from './access.ts';
import type { HubConfig } from './config.ts';
import { listen } from './listen.ts';
import { healthRoutes, metricsRoutes, type StatusSource } from './status-routes.ts';

/** Servers beside the hub's own, for those who watch it. */
export interface SideServers {
  /** Port of `/health`, `/live` and `/metrics`; null = the hub's own port only. */
  readonly system: number | null;
  /** Port of `/metrics`; null = the hub's own port only. */
  readonly metrics: number | null;
  close(): Promise<void>;
}

/** They take few connections, and never need one for long. */
const MAX_CONNECTIONS = 64;
const REQUEST_MS = 15_000;

/** `--system-port` and `--metrics-endpoint-port`, with the hub's address and certificate. Throws `HubStartError` when a port is taken. */
export async function startSideServers(
  config: HubConfig,
  policy: AccessPolicy,
  status: StatusSource,
): Promise<SideServers> {
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    await Promise.all(closers.map((closer) => closer()));
  };
  const start = async (port: number | null, flag: string, routes: readonly Hono[]): Promise<number | null> => {
    if (port === null) return null;
    const app = new Hono();
    app.use(guard(policy));
    for (const each of routes) app.route('/', each);
    const listener = getRequestListener(app.fetch, { overrideGlobalObjects: false });
    const server = config.tls ? createTlsServer({ ...config.tls }, listener) : createServer(listener);
    server.maxConnections = MAX_CONNECTIONS;
    server.headersTimeout = REQUEST_MS;
    server.requestTimeout = REQUEST_MS;
    const bound = await listen(server, config.host, port, flag);
    closers.push(
      () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          server.closeAllConnections();
        }),
    );
    return bound;
  };
  try {
    return {
      system: await start(config.systemPort, '--system-port', [healthRoutes(status), metricsRoutes(status)]),
      metrics: await start(config.metricsPort, '--metrics-endpoint-port', [metricsRoutes(status)]),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
