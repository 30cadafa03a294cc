import { randomUUID } from 'node:crypto';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { reference } from '../unit/engine/simulated-gpu.ts';
import { eventsOf, type RawAnswer, RawRequest } from './raw-request.ts';

/** A completion of the hub's only model, on a connection of its own. */
export const post = (hubUrl: string, body: object, headers: Record<string, string> = {}): RawRequest =>
  new RawRequest(`${hubUrl}/v1/completions`, 'POST', { model: 'quire-pico', ...body }, headers);

/** Asks the hub to cancel a request. */
export const remove = (hubUrl: string, id: string, headers: Record<string, string> = {}): Promise<RawAnswer> =>
  new RawRequest(`${hubUrl}/v1/requests/${id}`, 'DELETE', null, headers).answer;

export const whole = (from: number, to: number) => from + Math.floor(Math.random() * (to - from + 1));
export const pick = <T>(...of: readonly T[]): T => of[whole(0, of.length - 1)] as T;
export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export type How = 'leave' | 'delete' | 'timeout' | 'stay';

/** What became of a request. */
export interface Ended {
  readonly how: How;
  /** The hub said that it cancelled it. */
  readonly deleted: boolean;
  readonly answer: RawAnswer;
  /** What a node without a GPU gives for each choice. */
  readonly wanted: readonly number[][];
}

/** One request that is ended in a way and at a moment that nobody foresees, and what its client saw of it. */
export async function endedSomehow(hubUrl: string): Promise<Ended> {
  const prompt = Array.from({ length: pick(1, whole(2, 40), whole(100, 200)) }, () => whole(3, 9));
  const max_tokens = pick(whole(1, 10), whole(20, Math.min(120, 256 - prompt.length)));
  const n = pick(1, 1, 2);
  const stream = pick(true, false);
  const how = pick<How>('leave', 'leave', 'delete', 'delete', 'timeout', 'stay');
  const id = randomUUID();
  const timeout: Record<string, string> =
    how === 'timeout' ? { 'x-request-timeout': `0.${whole(1, 99).toString().padStart(3, '0')}` } : {};
  const body = { prompt, max_tokens, n, stream, ignore_eos: true, temperature: 0, return_token_ids: true };
  const request = post(hubUrl, body, { 'x-request-id': id, ...timeout });
  let deleted = false;
  if (how === 'leave' || how === 'delete') {
    if (stream && Math.random() < 0.5) await request.events(whole(1, 20));
    else await pause(pick(0, whole(0, 5), whole(5, 100), whole(50, 300)));
    if (how === 'leave') request.leave();
    else deleted = (await remove(hubUrl, id)).status === 200;
  }
  const { tokens } = reference(prompt, { ...GREEDY, maxTokens: max_tokens }, 256);
  return { how, deleted, answer: await request.answer, wanted: Array(n).fill(tokens) };
}

/** Why an answer ended early, in the words of its error; null = it did not. */
export function errorCode({ status, body, headers }: RawAnswer): string | null {
  if (!String(headers['content-type']).startsWith('text/event-stream')) {
    return status === 200 ? null : (JSON.parse(body) as { error: { code: string } }).error.code;
  }
  const last = eventsOf({ status, body, headers, whole: true }).at(-1) ?? '';
  return last === '[DONE]' ? null : (JSON.parse(last) as { error: { code: string } }).error.code;
}

/** Token ids of each choice, streamed or not. */
export function tokensOf(answer: RawAnswer, choices: number): number[][] {
  const tokens = Array.from({ length: choices }, (): number[] => []);
  const parts = String(answer.headers['content-type']).startsWith('text/event-stream')
    ? eventsOf(answer).filter((event) => event !== '[DONE]')
    : [answer.body];
  for (const part of parts) {
    const { choices: each } = JSON.parse(part) as { choices: { index: number; token_ids?: number[] }[] };
    for (const { index, token_ids } of each) tokens[index]?.push(...(token_ids ?? []));
  }
  return tokens;
}
