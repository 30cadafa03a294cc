import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import { type WebSocket, WebSocketServer } from 'ws';
import { CLOSE } from '../protocol/close-codes.ts';
import { VERSIONS } from '../protocol/messages.ts';
import { type AccessPolicy, wrongHost, wrongOrigin } from './access.ts';
import type { HubConfig } from './config.ts';
import { writingEvents } from './event-writer.ts';
import { listen } from './listen.ts';
import { closeWebSocket } from './websocket.ts';

export interface HubServer {
  readonly port: number;
  /** No new connections: closes node sockets, gives the answers that are being written a moment, then closes all connections. */
  close(): Promise<void>;
}

export interface ServerParts {
  readonly config: HubConfig;
  readonly policy: AccessPolicy;
  readonly app: Hono;
  /** Where nodes come in: `/cluster`, and `/cluster/bulk` for KV blocks. */
  readonly cluster: Door;
  readonly bulk: Door;
}

/** A path on which nodes open WebSockets. */
export interface Door {
  /** Longest message, bytes. */
  readonly maxMessageBytes: number;
  /** A WebSocket was just opened. */
  join(socket: WebSocket): void;
  /** null = one more may come; else why not. */
  full(): string | null;
}

/** How long a client may take to send its headers, and its whole request. Answers may take as long as they want. */
const HEADERS_MS = 15_000;
const REQUEST_MS = 60_000;
/**
 * How long a connection may be idle between requests: longer than clients and proxies keep one (nginx 60 s), so that it is they who end
 * it. One that the hub ends just as a request comes is an error for who sent it.
 */
const IDLE_MS = 75_000;
/** How long answers may go on being written once the hub has nothing more to say. */
const LAST_WRITES_MS = 1000;

/** One port for page, API and node sockets. Throws `HubStartError` when the port is taken. */
export async function startServer({ config, policy, app, cluster, bulk }: ServerParts): Promise<HubServer> {
  const listener = getRequestListener(writingEvents(app.fetch), { overrideGlobalObjects: false });
  const server: Server = config.tls ? createTlsServer({ ...config.tls }, listener) : createServer(listener);
  server.headersTimeout = HEADERS_MS;
  server.requestTimeout = REQUEST_MS;
  server.keepAliveTimeout = IDLE_MS;
  server.maxConnections = 2 * config.limits.maxNodes + config.limits.maxInflight + 1024;
  const doors: ReadonlyMap<string, Entrance> = new Map([
    ['/cluster', entrance(cluster)],
    ['/cluster/bulk', entrance(bulk)],
  ]);
  server.on('upgrade', (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    const entered = doors.get(request.url?.split('?')[0] ?? '');
    const refusal = refuseUpgrade(request, policy, entered?.door);
    if (entered === undefined || refusal !== null) refuse(stream, refusal ?? NO_DOOR);
    else entered.sockets.handleUpgrade(request, stream, head, (socket) => entered.door.join(socket));
  });
  const answers = countAnswers(server);
  const closed = new Promise<void>((resolve) => server.once('close', () => resolve()));
  const port = await listen(server, config.host, config.port, '--http-port');
  return {
    port,
    async close() {
      server.close();
      server.closeIdleConnections();
      const entrances = [...doors.values()];
      for (const { sockets } of entrances) sockets.close();
      const clients = entrances.flatMap(({ sockets }) => [...sockets.clients]);
      await Promise.all([
        Promise.race([answers.ended(), delay(LAST_WRITES_MS, undefined, { ref: false })]),
        ...clients.map((socket) => closeWebSocket(socket, CLOSE.goingAway, 'the hub ends')),
      ]);
      // Also the connections that browsers open ahead of any request, which do not count as idle.
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Counts the answers that are being written. */
function countAnswers(server: Server): { ended(): Promise<void> } {
  let open = 0;
  let whenEnded = () => {};
  server.on('request', (_request, response) => {
    open += 1;
    response.once('close', () => {
      open -= 1;
      if (open === 0) whenEnded();
    });
  });
  return {
    ended: () =>
      new Promise((resolve) => {
        whenEnded = resolve;
        if (open === 0) resolve();
      }),
  };
}

interface UpgradeRefusal {
  readonly status: string;
  readonly reason: string;
}

interface Entrance {
  readonly door: Door;
  readonly sockets: WebSocketServer;
}

function entrance(door: Door): Entrance {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: door.maxMessageBytes,
    perMessageDeflate: false,
    // A client with no version that we speak is let in as far as the error message that lists ours.
    handleProtocols: (offered) => VERSIONS.find((v) => offered.has(v)) ?? offered.values().next().value ?? false,
  });
  return { door, sockets };
}

const NO_DOOR: UpgradeRefusal = { status: '404 Not Found', reason: 'Nodes join at /cluster.' };

function refuseUpgrade(request: IncomingMessage, policy: AccessPolicy, door: Door | undefined): UpgradeRefusal | null {
  const { host, origin } = request.headers;
  const forbidden = (reason: string) => ({ status: '403 Forbidden', reason });
  if (!policy.hostAllowed(host)) return forbidden(wrongHost(host));
  if (!policy.originAllowed(origin, host)) return forbidden(wrongOrigin(origin));
  if (door === undefined) return NO_DOOR;
  const reason = door.full();
  return reason === null ? null : { status: '503 Service Unavailable', reason };
}

function refuse(stream: Duplex, { status, reason }: UpgradeRefusal): void {
  stream.on('error', () => stream.destroy());
  const length = Buffer.byteLength(reason);
  stream.end(
    `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: ${length}\r\n\r\n${reason}`,
  );
}
