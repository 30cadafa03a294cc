import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import type { Role } from '../../src/protocol/messages.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { CountingClock } from '../support/counting-clock.ts';
import { GpulessNode, type GpulessNodeOptions, type Phase } from '../support/gpuless-node.ts';
import { eventsOf, type RawAnswer, RawRequest } from '../support/raw-request.ts';
import { startTestHub } from '../support/test-hub.ts';
import { reference } from '../unit/engine/simulated-gpu.ts';

const CANCELLATIONS = 1000;
const AT_ONCE = 40;

let clock: CountingClock;
let hub: Hub;
let nodes: GpulessNode[];
beforeEach(async () => {
  clock = new CountingClock();
  const disaggregation = { transports: ['relay'] as const, timeoutMs: 5000, minTokens: 20 };
  hub = await startTestHub({ disaggregation }, {}, undefined, clock);
  nodes = [];
});
afterEach(async () => {
  // None has anything that it would wait for.
  for (const node of nodes) await node.leave();
  await hub.close();
  // Not one timer of the hub or of a node survives them, but for reports that were about to be sent.
  await until(() => clock.pending === 0);
});

async function join(options: Partial<GpulessNodeOptions> = {}): Promise<GpulessNode> {
  const node = new GpulessNode({ hubUrl: hub.url, clock, ...options });
  nodes.push(node);
  await until(() => node.stage === 'ready');
  return node;
}

async function until(condition: () => boolean, what: () => unknown = () => ''): Promise<void> {
  const end = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not reached in 20 seconds: ${condition} ${JSON.stringify(what())}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const post = (body: object, headers: Record<string, string> = {}) =>
  new RawRequest(`${hub.url}/v1/completions`, 'POST', { model: 'quire-pico', ...body }, headers);
const remove = (id: string) => new RawRequest(`${hub.url}/v1/requests/${id}`, 'DELETE', null, {}).answer;

/** Everything that a request may hold on to. */
function held() {
  const { inflightRequests, nodes: states } = hub.state();
  const loads = nodes.flatMap(({ engine }) => (engine === null ? [] : [engine.load()]));
  const sum = (read: (load: (typeof loads)[number]) => number) => loads.reduce((total, load) => total + read(load), 0);
  const resources = process.getActiveResourcesInfo();
  return {
    requests: inflightRequests,
    requestsOfNodes: states.reduce((total, { activeRequests }) => total + activeRequests, 0),
    sequencesByTheRouter: states.reduce((total, { activeSequences }) => total + activeSequences, 0),
    sequencesRunning: sum(({ running }) => running),
    sequencesWaiting: sum(({ waiting }) => waiting),
    blocks: sum(({ usedBlocks }) => usedBlocks),
    transfers: hub.state().transfers.length,
    timers: clock.pending,
    sockets: resources.filter((name) => name.startsWith('TCP')).length,
  };
}

async function metric(name: string, labels: string): Promise<number> {
  const text = await (await fetch(`${hub.url}/metrics`, { headers: { connection: 'close' } })).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(labels));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

const whole = (from: number, to: number) => from + Math.floor(Math.random() * (to - from + 1));
const pick = <T>(...of: readonly T[]): T => of[whole(0, of.length - 1)] as T;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

type How = 'leave' | 'delete' | 'timeout' | 'stay';

/** One request that is ended in a way and at a moment that nobody foresees, and what its client saw of it. */
async function endedSomehow(): Promise<{ how: How; deleted: boolean; answer: RawAnswer; wanted: readonly number[][] }> {
  const prompt = Array.from({ length: pick(1, whole(2, 40), whole(100, 200)) }, () => whole(3, 9));
  const max_tokens = pick(whole(1, 10), whole(20, Math.min(120, 256 - prompt.length)));
  const n = pick(1, 1, 2);
  const stream = pick(true, false);
  const how = pick<How>('leave', 'leave', 'delete', 'delete', 'timeout', 'stay');
  const id = randomUUID();
  const timeout: Record<string, string> =
    how === 'timeout' ? { 'x-request-timeout': `0.${whole(1, 99).toString().padStart(3, '0')}` } : {};
  const body = { prompt, max_tokens, n, stream, ignore_eos: true, temperature: 0, return_token_ids: true };
  const request = post(body, { 'x-request-id': id, ...timeout });
  let deleted = false;
  if (how === 'leave' || how === 'delete') {
    if (stream && Math.random() < 0.5) await request.events(whole(1, 20));
    else await pause(pick(0, whole(0, 5), whole(5, 100), whole(50, 300)));
    if (how === 'leave') request.leave();
    else deleted = (await remove(id)).status === 200;
  }
  const { tokens } = reference(prompt, { ...GREEDY, maxTokens: max_tokens }, 256);
  return { how, deleted, answer: await request.answer, wanted: Array(n).fill(tokens) };
}

/** Why an answer ended early, in the words of its error; null = it did not. */
function errorCode({ status, body, headers }: RawAnswer): string | null {
  if (!String(headers['content-type']).startsWith('text/event-stream')) {
    return status === 200 ? null : (JSON.parse(body) as { error: { code: string } }).error.code;
  }
  const last = eventsOf({ status, body, headers, whole: true }).at(-1) ?? '';
  return last === '[DONE]' ? null : (JSON.parse(last) as { error: { code: string } }).error.code;
}

/** Token ids of each choice, streamed or not. */
function tokensOf(answer: RawAnswer, choices: number): number[][] {
  const tokens = Array.from({ length: choices }, (): number[] => []);
  const parts = answer.body.startsWith('data: ')
    ? eventsOf(answer).filter((event) => event !== '[DONE]')
    : [answer.body];
  for (const part of parts) {
    const { choices: each } = JSON.parse(part) as { choices: { index: number; token_ids?: number[] }[] };
    for (const { index, token_ids } of each) tokens[index]?.push(...(token_ids ?? []));
  }
  return tokens;
}

/** Roles of the nodes, and the phases in which requests of such a cluster can be cancelled. */
const CLUSTERS: readonly { roles: readonly Role[]; phases: readonly Phase[] }[] = [
  { roles: ['agg', 'agg', 'agg'], phases: ['queued', 'prefill', 'decode'] },
  { roles: ['prefill', 'prefill', 'decode', 'decode'], phases: ['queued', 'transfer', 'prefill', 'decode'] },
];

describe.each(CLUSTERS)('after 1,000 random cancellations, $roles', ({ roles, phases }) => {
  it('G4: no request, sequence, block, transfer, timer or socket is left, and nothing of them was computed in a later step', async () => {
    for (const role of roles) await join({ role, maxNumSeqs: 3, stepMs: () => Math.random() * 8 });
    await pause(50);
    const before = held();
    expect(before).toMatchObject({ requests: 0, sequencesRunning: 0, sequencesWaiting: 0, blocks: 0 });

    const met = (phase: Phase) => nodes.reduce((sum, { cancelled }) => sum + cancelled[phase], 0);
    const cancellations = () => phases.reduce((sum, phase) => sum + met(phase), 0);
    const outcomes: Awaited<ReturnType<typeof endedSomehow>>[] = [];
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (cancellations() < CANCELLATIONS) outcomes.push(await endedSomehow());
      }),
    );
    // A node has four timers, and one more while a snapshot for its page waits; all else must be as it was.
    const left = () => ({ ...held(), timers: Math.max(0, clock.pending - 5 * nodes.length) });
    await until(() => JSON.stringify(left()) === JSON.stringify({ ...before, timers: 0 }), held);
    expect(nodes.flatMap(({ faults }) => faults)).toEqual([]);

    // They were ended wherever a request can be.
    for (const phase of phases) expect({ phase, often: met(phase) > 20 }).toEqual({ phase, often: true });

    // Each client saw the end that was made, and whoever stayed got all of it, and right.
    const seen = { request_cancelled: 0, timeout: 0 };
    for (const { how, deleted, answer, wanted } of outcomes) {
      if (how === 'leave') continue;
      expect(answer.whole).toBe(true);
      const code = errorCode(answer);
      expect(code).toBe(deleted ? 'request_cancelled' : how === 'timeout' && code !== null ? 'timeout' : null);
      if (code === 'request_cancelled' || code === 'timeout') seen[code] += 1;
      else expect(tokensOf(answer, wanted.length)).toEqual(wanted);
    }
    expect(seen.request_cancelled).toBeGreaterThan(100);
    expect(seen.timeout).toBeGreaterThan(50);
    expect(await metric('quire_cancellations_total', 'cause="api"')).toBe(seen.request_cancelled);
    expect(await metric('quire_cancellations_total', 'cause="timeout"')).toBe(seen.timeout);
    const disconnected = await metric('quire_cancellations_total', 'cause="disconnect"');
    expect(disconnected).toBeGreaterThan(100);
    const cancelled = await metric('dynamo_frontend_model_cancellation_total', 'endpoint="completions"');
    expect(cancelled).toBe(seen.request_cancelled + seen.timeout + disconnected);
    expect(await metric('dynamo_frontend_model_cancellation_total', 'request_type="unary"')).toBeGreaterThan(50);
    expect(await metric('dynamo_frontend_requests_total', 'status="error"')).toBe(0);

    if (!phases.includes('transfer')) return;
    expect(await metric('quire_kv_transfers_total', 'outcome="done"')).toBeGreaterThan(100);
    expect(await metric('quire_kv_transfers_total', 'outcome="cancelled"')).toBeGreaterThan(50);
  });
});

describe('DELETE /v1/requests/{id}', () => {
  it('is for the key that sent the request alone', async () => {
    await hub.close();
    hub = await startTestHub({ apiKeys: ['alice', 'bob'] }, {}, undefined, clock);
    const node = await join({ stepMs: () => 5 });
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    const cancel = (headers: Record<string, string>) =>
      new RawRequest(`${hub.url}/v1/requests/shared-name`, 'DELETE', null, headers).answer;
    const body = { prompt: [3, 4], max_tokens: 200, ignore_eos: true, stream: true };
    const request = post(body, { 'x-request-id': 'shared-name', ...bearer('alice') });
    await request.events(2);
    expect((await cancel({})).status).toBe(401);
    expect((await cancel(bearer('bob'))).status).toBe(404);
    expect(node.engine?.load().running).toBe(1);
    expect((await cancel(bearer('alice'))).status).toBe(200);
    expect(errorCode(await request.answer)).toBe('request_cancelled');
    expect(node.cancelled.decode).toBe(1);
  });

  it('takes the id that the chunks of a chat have', async () => {
    const node = await join({ stepMs: () => 5 });
    const body = { model: 'quire-pico', messages: [{ role: 'user', content: 'hi' }], max_tokens: 200, stream: true };
    const chat = new RawRequest(`${hub.url}/v1/chat/completions`, 'POST', { ...body, ignore_eos: true }, {});
    await chat.events(3);
    const { id } = JSON.parse(chat.soFar.split('\n')[0]?.slice('data: '.length) ?? '') as { id: string };
    expect(id).toMatch(/^chatcmpl-/);
    expect((await remove(id)).status).toBe(200);
    expect(errorCode(await chat.answer)).toBe('request_cancelled');
    expect(node.cancelled.decode).toBe(1);
    expect((await remove(id)).status).toBe(404);
  });
});

describe('a request whose node was lost, and which waits for another', () => {
  it.each(['leave', 'delete', 'timeout'] as const)('%s: it goes to no node any more', async (how) => {
    const first = await join({ stepMs: () => 5 });
    const timeout: Record<string, string> = how === 'timeout' ? { 'x-request-timeout': '0.5' } : {};
    const body = { prompt: [3, 4], max_tokens: 200, ignore_eos: true, stream: true };
    const request = post(body, { 'x-request-id': 'waiting', ...timeout });
    await request.events(2);
    await first.leave();
    await until(() => hub.state().nodes.length === 0);
    expect(hub.state().inflightRequests).toBe(1);
    if (how === 'leave') request.leave();
    if (how === 'delete') expect((await remove('waiting')).status).toBe(200);
    await until(() => hub.state().inflightRequests === 0);
    const answer = await request.answer;
    if (how !== 'leave') expect(errorCode(answer)).toBe(how === 'delete' ? 'request_cancelled' : 'timeout');
    const second = await join();
    await pause(50);
    expect(second.steps).toBe(0);
    expect(await metric('quire_cancellations_total', 'cause=')).toBe(1);
  });
});
