import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as z from 'zod';

const Body = z
  .object({ ID: z.string(), TTL: z.string(), key: z.string(), value: z.string(), lease: z.string() })
  .partial();

/** As much of etcd's JSON gateway as a client of leases and keys sees. */
export class FakeEtcd {
  /** Value and lease by key. */
  readonly records = new Map<string, { value: string; lease: string }>();
  readonly leases = new Set<string>();
  keepalives = 0;
  /** Answers everything with 503. */
  down = false;
  #lastLease = 7587868413541234000n;
  readonly #server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const answer = this.down
        ? null
        : this.#answer(request.url ?? '', Body.parse(JSON.parse(String(Buffer.concat(parts)))));
      response.writeHead(answer === null ? 503 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer ?? { error: 'etcdserver: no leader', code: 14 }));
    });
  });

  static async start(): Promise<FakeEtcd> {
    const etcd = new FakeEtcd();
    await new Promise<void>((resolve) => etcd.#server.listen(0, '127.0.0.1', resolve));
    return etcd;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** All leases run out, and what hangs on them goes. */
  expire(): void {
    this.leases.clear();
    this.records.clear();
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(path: string, body: z.infer<typeof Body>): object | null {
    const key = Buffer.from(body.key ?? '', 'base64').toString();
    switch (path) {
      case '/v3/lease/grant': {
        const lease = String(this.#lastLease++);
        this.leases.add(lease);
        return { header: {}, ID: lease, TTL: body.TTL };
      }
      case '/v3/lease/keepalive':
        this.keepalives += 1;
        return { result: { header: {}, ID: body.ID, ...(this.leases.has(body.ID ?? '') && { TTL: '10' }) } };
      case '/v3/lease/revoke':
        this.leases.delete(body.ID ?? '');
        for (const [name, { lease }] of this.records) if (lease === body.ID) this.records.delete(name);
        return { header: {} };
      case '/v3/kv/put':
        if (!this.leases.has(body.lease ?? '')) return null;
        this.records.set(key, { value: Buffer.from(body.value ?? '', 'base64').toString(), lease: body.lease ?? '' });
        return { header: {} };
      case '/v3/kv/deleterange':
        return { header: {}, deleted: this.records.delete(key) ? '1' : '0' };
      default:
        return null;
    }
  }
}
