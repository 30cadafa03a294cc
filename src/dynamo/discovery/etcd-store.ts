import * as z from 'zod';
import { BridgeStartError } from '../start-error.ts';
import type { Entry, RecordName, Store } from './store.ts';

/** Seconds after which records of a hub that died vanish, as Dynamo's own workers have it. */
const TTL = 10;
const CALL_MS = 5000;
const MAX_ANSWER_BYTES = 64 << 10;

/** etcd writes 64-bit integers as texts. */
const Granted = z.object({ ID: z.string().regex(/^\d{1,20}$/) });
/** `TTL` is 0 or missing where the lease is gone. */
const KeptAlive = z.object({ result: z.object({ TTL: z.string().optional() }) });

const base64 = (text: string) => Buffer.from(text, 'utf8').toString('base64');
const keyOf = ({ bucket, key }: RecordName) => base64(`${bucket}/${key}`);

/**
 * Dynamo's etcd backend, by etcd's JSON gateway (etcd 3.4 and later: https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/): all records hang on one lease.
 * endpoints: `http://host:port`; where one does not answer the next is asked. Throws `BridgeStartError` where none does.
 */
export async function openEtcdStore(endpoints: readonly string[]): Promise<Store> {
  let current = 0;
  const call = async <T>(path: string, body: object, schema: z.ZodType<T>): Promise<T> => {
    let failure: unknown;
    for (let tried = 0; tried < endpoints.length; tried++) {
      const endpoint = endpoints[current]!;
      try {
        return schema.parse(await post(new URL(path, endpoint), body));
      } catch (error) {
        failure = new Error(`etcd at ${endpoint}: ${reason(error)}`);
        current = (current + 1) % endpoints.length;
      }
    }
    throw failure;
  };
  const grant = async () => (await call('/v3/lease/grant', { TTL: String(TTL) }, Granted)).ID;
  let lease = await grant().catch((error: unknown) => {
    throw new BridgeStartError(
      `ETCD_ENDPOINTS: ${reason(error)}. Name etcd's own addresses, such as http://127.0.0.1:2379.`,
    );
  });
  const write = async (entry: Entry): Promise<void> => {
    await call('/v3/kv/put', { key: keyOf(entry), value: base64(entry.text), lease }, z.object({}));
  };
  return {
    refreshMs: (TTL * 1000) / 3,
    write,
    async erase(name) {
      await call('/v3/kv/deleterange', { key: keyOf(name) }, z.object({}));
    },
    async refresh(entries) {
      const { result } = await call('/v3/lease/keepalive', { ID: lease }, KeptAlive);
      if (Number(result.TTL ?? 0) > 0) return;
      // The lease ran out while etcd was not reached, or this machine slept, and all records went with it.
      lease = await grant();
      for (const entry of entries) await write(entry);
    },
    async close() {
      await call('/v3/lease/revoke', { ID: lease }, z.object({}));
    },
  };
}

async function post(url: URL, body: object): Promise<unknown> {
  const response = await fetch(url, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
    redirect: 'error',
    signal: AbortSignal.timeout(CALL_MS),
  });
  const text = await bounded(response);
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`);
  return JSON.parse(text);
}

async function bounded(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error('its answer is too long for one of etcd');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error ? `${error.message} (${cause.message})` : error.message.replaceAll(/\s*\n\s*/g, ' ');
}
