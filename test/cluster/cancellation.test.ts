import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Role } from '../../src/protocol/messages.ts';
import { GpulessCluster } from '../support/gpuless-cluster.ts';
import type { Phase } from '../support/gpuless-node.ts';
import { type Ended, endedSomehow, errorCode, pause, post, remove, tokensOf } from '../support/random-requests.ts';
import { RawRequest } from '../support/raw-request.ts';
import { until } from '../support/until.ts';

const CANCELLATIONS = 1000;
const AT_ONCE = 40;

let cluster: GpulessCluster;
beforeEach(async () => {
  cluster = await GpulessCluster.start();
});
afterEach(() => cluster.close());

/** Roles of the nodes, and the phases in which requests of such a cluster can be cancelled. */
const CLUSTERS: readonly { roles: readonly Role[]; phases: readonly Phase[] }[] = [
  { roles: ['agg', 'agg', 'agg'], phases: ['queued', 'prefill', 'decode'] },
  { roles: ['prefill', 'prefill', 'decode', 'decode'], phases: ['queued', 'transfer', 'prefill', 'decode'] },
];

// On a busy machine the clients take their time.
describe.each(CLUSTERS)('after 1,000 random cancellations, $roles', { timeout: 900_000 }, ({ roles, phases }) => {
  it('G4: no request, sequence, block, transfer, timer or socket is left, and nothing of them was computed in a later step', async () => {
    for (const role of roles) await cluster.join({ role, maxNumSeqs: 3, stepMs: () => Math.random() * 8 });
    const { nodes, clock } = cluster;
    // The hub's own, and both ends of those of each node.
    const sockets = 1 + roles.reduce((sum, role) => sum + (role === 'agg' ? 2 : 4), 0);
    await until(
      () => cluster.held().sockets === sockets,
      () => cluster.held(),
    );
    const before = cluster.held();
    expect(before).toMatchObject({ requests: 0, sequencesRunning: 0, sequencesWaiting: 0, blocks: 0 });

    const met = (phase: Phase) => nodes.reduce((sum, { cancelled }) => sum + cancelled[phase], 0);
    const cancellations = () => phases.reduce((sum, phase) => sum + met(phase), 0);
    const outcomes: Ended[] = [];
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (cancellations() < CANCELLATIONS) outcomes.push(await endedSomehow(cluster.url));
      }),
    );
    // The hub has a timer, a node four, and one more while a snapshot for its page waits; all else must be as it was.
    const left = () => ({ ...cluster.held(), timers: Math.max(0, clock.pending - 1 - 5 * nodes.length) });
    await until(
      () => JSON.stringify(left()) === JSON.stringify({ ...before, timers: 0 }),
      () => cluster.held(),
    );
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
    expect(await cluster.metric('quire_cancellations_total', 'cause="api"')).toBe(seen.request_cancelled);
    expect(await cluster.metric('quire_cancellations_total', 'cause="timeout"')).toBe(seen.timeout);
    const disconnected = await cluster.metric('quire_cancellations_total', 'cause="disconnect"');
    expect(disconnected).toBeGreaterThan(100);
    const cancelled = await cluster.metric('dynamo_frontend_model_cancellation_total', 'endpoint="completions"');
    expect(cancelled).toBe(seen.request_cancelled + seen.timeout + disconnected);
    expect(await cluster.metric('dynamo_frontend_model_cancellation_total', 'request_type="unary"')).toBeGreaterThan(
      50,
    );
    expect(await cluster.metric('dynamo_frontend_requests_total', 'status="error"')).toBe(0);

    if (!phases.includes('transfer')) return;
    expect(await cluster.metric('quire_kv_transfers_total', 'outcome="done"')).toBeGreaterThan(100);
    expect(await cluster.metric('quire_kv_transfers_total', 'outcome="cancelled"')).toBeGreaterThan(50);
  });
});

describe('DELETE /v1/requests/{id}', () => {
  it('is for the key that sent the request alone', async () => {
    await cluster.close();
    cluster = await GpulessCluster.start({ apiKeys: ['alice', 'bob'] });
    const node = await cluster.join({ stepMs: () => 5 });
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    const cancel = (headers: Record<string, string>) => remove(cluster.url, 'shared-name', headers);
    const body = { prompt: [3, 4], max_tokens: 200, ignore_eos: true, stream: true };
    const request = post(cluster.url, body, { 'x-request-id': 'shared-name', ...bearer('alice') });
    await request.events(2);
    expect((await cancel({})).status).toBe(401);
    expect((await cancel(bearer('bob'))).status).toBe(404);
    expect(node.engine?.load().running).toBe(1);
    expect((await cancel(bearer('alice'))).status).toBe(200);
    expect(errorCode(await request.answer)).toBe('request_cancelled');
    expect(node.cancelled.decode).toBe(1);
  });

  it('takes the id that the chunks of a chat have', async () => {
    const node = await cluster.join({ stepMs: () => 5 });
    const body = { model: 'quire-pico', messages: [{ role: 'user', content: 'hi' }], max_tokens: 200, stream: true };
    const chat = new RawRequest(`${cluster.url}/v1/chat/completions`, 'POST', { ...body, ignore_eos: true }, {});
    await chat.events(3);
    const { id } = JSON.parse(chat.soFar.split('\n')[0]?.slice('data: '.length) ?? '') as { id: string };
    expect(id).toMatch(/^chatcmpl-/);
    expect((await remove(cluster.url, id)).status).toBe(200);
    expect(errorCode(await chat.answer)).toBe('request_cancelled');
    expect(node.cancelled.decode).toBe(1);
    expect((await remove(cluster.url, id)).status).toBe(404);
  });
});

describe('a request whose node was lost, and which waits for another', () => {
  it.each(['leave', 'delete', 'timeout'] as const)('%s: it goes to no node any more', async (how) => {
    const first = await cluster.join({ stepMs: () => 5 });
    const timeout: Record<string, string> = how === 'timeout' ? { 'x-request-timeout': '0.5' } : {};
    const body = { prompt: [3, 4], max_tokens: 200, ignore_eos: true, stream: true };
    const request = post(cluster.url, body, { 'x-request-id': 'waiting', ...timeout });
    await request.events(2);
    await first.leave();
    await until(() => cluster.hub.state().nodes.length === 0);
    expect(cluster.hub.state().inflightRequests).toBe(1);
    if (how === 'leave') request.leave();
    if (how === 'delete') expect((await remove(cluster.url, 'waiting')).status).toBe(200);
    await until(() => cluster.hub.state().inflightRequests === 0);
    const answer = await request.answer;
    if (how !== 'leave') expect(errorCode(answer)).toBe(how === 'delete' ? 'request_cancelled' : 'timeout');
    const second = await cluster.join();
    await pause(50);
    expect(second.steps).toBe(0);
    expect(await cluster.metric('quire_cancellations_total', 'cause=')).toBe(1);
  });
});
