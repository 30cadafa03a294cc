import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { HubStartError } from './start-error.ts';

/** Listens; resolves to the port. flag: the option that names the port. Throws `HubStartError` when that cannot be. */
export function listen(server: Server, host: string, port: number, flag: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why: Record<string, string> = {
        EADDRINUSE: `the port is taken. Stop what uses it, or choose another with ${flag}`,
        EACCES: `this user may not listen there. Choose a port above 1023 with ${flag}`,
        EADDRNOTAVAIL: 'this machine has no such address. Choose another with --http-host',
        ENOTFOUND: 'there is no such host. Choose another with --http-host',
      };
      const reason = why[error.code ?? ''] ?? error.message;
      reject(new HubStartError(`Cannot listen on ${host}:${port}: ${reason}.`, { cause: error }));
    });
    server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
  });
}
