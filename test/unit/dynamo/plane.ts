import pino from 'pino';
import { afterEach, expect } from 'vitest';
import type { Handler, RequestPlane } from '../../../src/dynamo/ports.ts';
import { allowedHomes } from '../../../src/dynamo/wire/allowed-homes.ts';
import {
  REQUEST_PLANE_LIMITS,
  type RequestPlaneLimits,
  startRequestPlane,
} from '../../../src/dynamo/wire/request-plane.ts';
import { FakeFrontend } from './fake-frontend.ts';

export const PATH = '1092/generate';
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A request plane, and a frontend that is connected to it. Ends with the test. */
export async function start({
  limits = {},
  host = '127.0.0.1',
  networks = [],
}: {
  limits?: Partial<RequestPlaneLimits>;
  host?: string;
  networks?: readonly string[];
} = {}): Promise<{ plane: RequestPlane; frontend: FakeFrontend; log: string[] }> {
  const log: string[] = [];
  const plane = await startRequestPlane({
    ...{ host, port: 0, allowed: allowedHomes(networks) },
    limits: { ...REQUEST_PLANE_LIMITS, ...limits },
    log: pino({ base: null }, { write: (line: string) => void log.push(line) }),
  });
  closers.push(() => plane.close());
  const frontend = await frontendOf(plane);
  return { plane, frontend, log };
}

export async function frontendOf(plane: RequestPlane, host?: string): Promise<FakeFrontend> {
  const frontend = await FakeFrontend.start(plane.address, host);
  closers.push(() => frontend.close());
  return frontend;
}

/** Answers with these tokens, one an item. */
export const says =
  (...tokens: number[]): Handler =>
  async (_body, reply) => {
    reply.accept();
    for (const token of tokens) await reply.item({ token_ids: [token] });
    reply.end();
  };
export const item = (data: object) => ({ data: { data }, complete_final: false });
export const FINAL = { complete_final: true };
/** An error item. */
export const failed = (error_type: unknown, message: unknown = expect.any(String)) => ({
  data: { event: 'error', error: { error_type, message } },
  complete_final: false,
});
