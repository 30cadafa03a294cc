import pino from 'pino';
import { expect } from 'vitest';
import type { BridgeHub, DynamoErrorType, WishedPlace } from '../../../src/dynamo/ports.ts';
import { generateHandler } from '../../../src/dynamo/requests/generate-handler.ts';
import type { Backend, ServedModel } from '../../../src/frontend/backend.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import type { Role } from '../../../src/protocol/messages.ts';
import { cardOf } from '../../support/routing-simulation.ts';
import { pico, ScriptedBackend, servedModel } from '../frontend/support.ts';
import { chatRequest } from './captures.ts';

export type Body = Record<string, unknown>;
export const chat = chatRequest.body as Body;

/** A captured body with some of its fields changed, a level deep. */
export function changed(body: Body, change: Record<string, Body | unknown>): Body {
  const merged = Object.entries(change).map(([key, value]) => {
    const before = body[key];
    const nested = typeof value === 'object' && value !== null && !Array.isArray(value);
    return [key, nested ? { ...(before as Body), ...value } : value];
  });
  return { ...body, ...Object.fromEntries(merged) };
}

export interface Answer {
  readonly items: Record<string, unknown>[];
  readonly error: { readonly type: DynamoErrorType; readonly message: string } | null;
  readonly ended: boolean;
  readonly places: WishedPlace[];
}

export async function ask(
  body: unknown,
  backend: Backend,
  {
    role = 'agg',
    priorities = false,
    model = {},
    signal = new AbortController().signal,
    item: came = () => {},
  }: { role?: Role; priorities?: boolean; model?: Partial<ServedModel>; signal?: AbortSignal; item?: () => void } = {},
): Promise<Answer> {
  const answer = {
    items: [] as Record<string, unknown>[],
    error: null as Answer['error'],
    ended: false,
    places: [] as WishedPlace[],
  };
  const served = servedModel(backend, model);
  const hub: Pick<BridgeHub, 'generate' | 'priorities'> = {
    priorities,
    generate(name, request, place, aborted) {
      expect(name).toBe(served.name);
      answer.places.push(place);
      return backend.generate(request, aborted, { ...place, knobs: {}, routed() {}, transferred() {}, migrated() {} });
    },
  };
  const node = {
    id: 'node-a',
    model: served.name,
    card: { ...cardOf({ id: 'node-a', speed: 1, blocks: 512 }, 16), role, dpRank: 2, dpSize: 2 },
  };
  const worker = { node, model: { served, maxModelLen: 2048, blockSize: 16, files: [] } };
  const handler = generateHandler({ hub, worker, log: pino({ level: 'silent' }) });
  let open = true;
  const item = async (data: object) => {
    if (!open) return;
    answer.items.push(data as Record<string, unknown>);
    came();
  };
  await handler(
    body,
    {
      accept() {},
      item,
      tokens: (token_ids) => item({ token_ids }),
      error(type, message) {
        if (open) answer.error = { type, message };
        open = false;
      },
      end() {
        if (open) answer.ended = true;
        open = false;
      },
      abandon() {},
    },
    signal,
  );
  return answer;
}

export const says = (tokens: readonly number[], more: Partial<ScriptedBackend['script']> = {}) =>
  new ScriptedBackend({ tokens: () => tokens, ...more });
export const ids = (text: string) => pico.encode(text, false);
export const asked = (backend: ScriptedBackend): GenerateRequest => backend.requests[0]!;
export const tokensOf = (items: readonly Record<string, unknown>[]) =>
  items.flatMap(({ token_ids }) => token_ids as number[]);
export const textOf = (items: readonly Record<string, unknown>[]) => items.map(({ text }) => text).join('');
