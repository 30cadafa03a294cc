import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import type { BridgeFile } from '../ports.ts';
import { BridgeStartError } from '../start-error.ts';

/** Frontends come once for each file; they keep what they got. */
const MAX_CONNECTIONS = 256;
const REQUEST_MS = 15_000;

/** A listener that has the files of model cards, and nothing else. */
export interface FileServer {
  /** Takes a file in. Returns the URL at which it is served. digest: of its bytes, 64 hex digits. */
  serve(file: BridgeFile, digest: string): string;
  close(): Promise<void>;
}

/** Listens on any free port of an address. Throws `BridgeStartError` where that cannot be. */
export async function startFileServer(host: string, log: Logger): Promise<FileServer> {
  const files = new Map<string, Uint8Array>();
  const server = createServer((request, response) => {
    const bytes = request.method === 'GET' ? files.get(request.url ?? '') : undefined;
    if (bytes === undefined) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('There is no such file of a model card here.\n');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': bytes.length }).end(bytes);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.headersTimeout = REQUEST_MS;
  server.requestTimeout = REQUEST_MS;
  const port = await listen(server, host);
  server.on('error', (error) => log.error({ err: error }, 'the listener for the files of model cards fails'));
  const origin = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return {
    serve({ name, bytes }, digest) {
      const path = `/${digest}/${encodeURIComponent(name)}`;
      files.set(path, bytes);
      return origin + path;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new BridgeStartError(
          `DYN_TCP_RPC_HOST ${host}: the files of model cards cannot be served there: ${error.message}. Name an address of this machine.`,
        ),
      ),
    );
    server.listen(0, host, () => resolve((server.address() as AddressInfo).port));
  });
}
