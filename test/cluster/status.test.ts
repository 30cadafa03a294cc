import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { SUMMARY_MS } from '../../src/hub/status-routes.ts';
import { ClusterHistory, SAMPLE_MS } from '../../src/protocol/cluster-history.ts';
import { ClusterState } from '../../src/protocol/cluster-state.ts';
import { ClusterSummary } from '../../src/protocol/cluster-summary.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { seriesValue } from '../support/series.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
beforeEach(async () => {
  hub = await startTestHub();
});
afterEach(async () => {
  vi.useRealTimers();
  await hub.close();
});

async function json(route: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(hub.url + route);
  return { status: response.status, body: await response.json() };
}

/** Value of one series; undefined where it is not there. */
const metric = (series: string): Promise<number | undefined> => seriesValue(hub.url, series);

async function complete(max_tokens: number): Promise<void> {
  const body = JSON.stringify({ model: 'quire-pico', prompt: [1, 2, 3], max_tokens });
  const response = await fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
  expect(response.status).toBe(200);
}

describe('health', () => {
  it('is 503 until a node is ready, lists every node with its stage, and is 503 again when it left', async () => {
    expect(await json('/live')).toMatchObject({ status: 200, body: { status: 'live' } });
    expect(await json('/health')).toMatchObject({ status: 503, body: { status: 'unhealthy', instances: [] } });
    const node = await ScriptedNode.greet(hub.url);
    node.send({ type: 'stage', stage: 'downloading', detail: 'model.safetensors', loadedBytes: 1, totalBytes: 2 });
    await until(() => hub.state().nodes[0]?.stage === 'downloading');
    const instance = { instance_id: node.id, status: 'downloading', detail: 'model.safetensors', adapter: null };
    expect(await json('/health')).toMatchObject({ status: 503, body: { instances: [instance] } });
    node.send({ type: 'register', card: node.card() });
    await node.next('registered');
    expect(await json('/health')).toMatchObject({
      status: 200,
      body: {
        status: 'healthy',
        endpoints: ['quire-pico'],
        instances: [{ status: 'ready', adapter: 'scripted adapter' }],
      },
    });
    await node.leave();
    await until(() => hub.state().nodes.length === 0);
    expect((await json('/health')).status).toBe(503);
  });
});

describe('the cluster’s state', () => {
  it('is what the schema says, with the load that the node told and the hub’s own count', async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    node.load({ steps: 7 }, { running: 2, usedBlocks: 5 });
    void complete(4).catch(() => {});
    await node.next('generate');
    await until(() => hub.state().nodes[0]?.loads.length === 1);
    const state = ClusterState.parse((await json('/cluster/state')).body);
    expect(state).toMatchObject({
      inflightRequests: 1,
      models: [{ name: 'quire-pico', readyNodes: 1, maxModelLen: 2048 }],
      nodes: [
        {
          id: node.id,
          stage: 'ready',
          agent: 'scripted node',
          activeRequests: 1,
          activeSequences: 1,
          loads: [{ rank: 0, running: 2, usedBlocks: 5, counters: { steps: 7 } }],
          kvEvents: { count: 0, gaps: 0 },
        },
      ],
    });
    expect(JSON.stringify(state)).not.toContain(node.welcome?.resumeToken);
  });

  it('has a short form for pages: the same groups of nodes, and one answer for all that ask at once', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const node = await ScriptedNode.join(hub.url);
    await ScriptedNode.join(hub.url, { card: { role: 'prefill' } });
    const summary = ClusterSummary.parse((await json('/cluster/summary')).body);
    expect(summary).toMatchObject({
      ...{ nodeCount: 2, readyNodes: 2, inflightRequests: 0, nodes: [{ id: node.id }, { card: { role: 'prefill' } }] },
      groups: [
        { role: 'agg', stage: 'ready', adapter: 'scripted adapter', nodes: 1 },
        { role: 'prefill', stage: 'ready', adapter: 'scripted adapter', nodes: 1 },
      ],
    });
    await node.leave();
    await until(() => hub.state().nodes.length === 1);
    expect((await json('/cluster/summary')).body).toEqual(summary);
    vi.advanceTimersByTime(SUMMARY_MS);
    expect((await json('/cluster/summary')).body).toMatchObject({ nodeCount: 1 });
  });

  it('counts KV events in order and their gaps', async () => {
    const node = await ScriptedNode.join(hub.url);
    const cleared = (eventId: number) => ({ type: 'cleared' as const, eventId });
    node.send({ type: 'kv_events', rank: 0, events: [cleared(1), cleared(2), cleared(5)] });
    expect(await node.next('kv_snapshot_request')).toEqual({ type: 'kv_snapshot_request', rank: 0 });
    node.send({ type: 'kv_snapshot', rank: 0, snapshot: { lastEventId: 5, part: 0, parts: 1, blocks: [] } });
    node.send({ type: 'kv_events', rank: 0, events: [cleared(6)] });
    await until(() => hub.state().nodes[0]?.kvEvents.count === 6);
    expect(hub.state().nodes[0]?.kvEvents).toEqual({ count: 6, gaps: 1 });
  });
});

describe('metrics', () => {
  it('count requests and tokens under the names of Dynamo and vLLM', async () => {
    await ScriptedNode.join(hub.url);
    await complete(5);
    await complete(7);
    const labels = '{model="quire-pico",endpoint="completions",request_type="unary",status="success"}';
    expect(await metric(`dynamo_frontend_requests_total${labels}`)).toBe(2);
    for (const histogram of ['time_to_first_token_seconds', 'request_duration_seconds', 'input_sequence_tokens']) {
      expect(await metric(`dynamo_frontend_${histogram}_count{model="quire-pico"}`)).toBe(2);
    }
    expect(await metric('dynamo_frontend_output_sequence_tokens_sum{model="quire-pico"}')).toBe(12);
    expect(await metric('dynamo_frontend_input_sequence_tokens_sum{model="quire-pico"}')).toBe(6);
    expect(await metric('dynamo_frontend_inter_token_latency_seconds_count{model="quire-pico"}')).toBe(10);
    expect(await metric('vllm:generation_tokens_total{model_name="quire-pico"}')).toBe(12);
    expect(await metric('vllm:prompt_tokens_total{model_name="quire-pico"}')).toBe(6);
    expect(await metric('dynamo_frontend_output_tokens_total{model="quire-pico"}')).toBe(12);
    expect(await metric('dynamo_frontend_inflight_requests')).toBe(0);
    for (const histogram of ['time_to_first_token_seconds', 'e2e_request_latency_seconds', 'request_generation_tokens'])
      expect(await metric(`vllm:${histogram}_count{model_name="quire-pico"}`)).toBe(2);
    expect(await metric('vllm:inter_token_latency_seconds_count{model_name="quire-pico"}')).toBe(10);
    expect(await metric('vllm:request_success_total{model_name="quire-pico",finished_reason="length"}')).toBe(2);
  });

  it('are kept for the page: a look at the cluster every few seconds', async () => {
    const clock = new FakeClock();
    const own = await startTestHub({}, {}, undefined, clock);
    clock.advance(2 * SAMPLE_MS);
    const { samples } = ClusterHistory.parse(await (await fetch(`${own.url}/cluster/history`)).json());
    expect(samples.map(({ generatedTokensPerSecond }) => generatedTokensPerSecond)).toEqual([0, 0]);
    await own.close();
    expect(clock.pending).toBe(0);
  });

  it('show what runs now, what waits, and what each node tells', async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    void complete(4).catch(() => {});
    await node.next('generate');
    expect(await metric('dynamo_frontend_inflight_requests')).toBe(1);
    expect(await metric('dynamo_frontend_queued_requests')).toBe(1);
    const told = { steps: 9, mixedSteps: 2, submits: 11, overlappedSubmits: 10, decodeRows: 30 };
    node.load(told, { running: 3, waiting: 1, usedBlocks: 32, totalBlocks: 128 });
    await until(() => hub.state().nodes[0]?.loads.length === 1);
    expect(await metric('vllm:num_requests_running{model_name="quire-pico"}')).toBe(3);
    expect(await metric('vllm:num_requests_waiting{model_name="quire-pico"}')).toBe(1);
    expect(await metric('vllm:kv_cache_usage_perc{model_name="quire-pico"}')).toBe(0.25);
    const own = `{dynamo_namespace="dynamo",node="${node.id}",dp_rank="0",model_name="quire-pico"}`;
    expect(await metric(`quire_node_steps_total${own}`)).toBe(9);
    expect(await metric(`quire_node_mixed_steps_total${own}`)).toBe(2);
    expect(await metric(`quire_node_overlapped_submits_total${own}`)).toBe(10);
    expect(await metric('quire_nodes{dynamo_namespace="dynamo",model_name="quire-pico",stage="ready"}')).toBe(1);
    await node.leave();
    await until(() => hub.state().nodes.length === 0);
    expect(await metric(`quire_node_steps_total${own}`)).toBeUndefined();
    expect(await metric('vllm:num_requests_running{model_name="quire-pico"}')).toBe(0);
  });

  it.each([
    ['preemptions', 'num_preemptions'],
    ['draftTokens', 'spec_decode_num_draft_tokens'],
    ['acceptedTokens', 'spec_decode_num_accepted_tokens'],
  ] as const)('the cluster’s %s never fall, though nodes come and go', async (field, name) => {
    const total = () => metric(`vllm:${name}_total{model_name="quire-pico"}`);
    const loaded = (steps: number) =>
      until(() => hub.state().nodes.some(({ loads }) => loads[0]?.counters.steps === steps));
    const first = await ScriptedNode.join(hub.url);
    first.load({ [field]: 4, steps: 1 });
    await loaded(1);
    expect(await total()).toBe(4);
    first.load({ [field]: 6, steps: 2 });
    await loaded(2);
    expect(await total()).toBe(6);
    await first.leave();
    const second = await ScriptedNode.join(hub.url);
    second.load({ [field]: 1, steps: 3 });
    await loaded(3);
    expect(await total()).toBe(7);
  });
});

describe('the page', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'quire-page-'));
    await mkdir(path.join(folder, 'assets'));
    await writeFile(path.join(folder, 'index.html'), '<!doctype html><title>Quire</title>');
    await writeFile(path.join(folder, 'assets/worker-abc123.js'), 'export {};');
    await hub.close();
    hub = await startTestHub({ staticDir: folder, apiKeys: ['key'], joinToken: 'ticket' });
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('comes with its types, hashed files for ever and the rest checked each time, and needs no key', async () => {
    const index = await fetch(`${hub.url}/`);
    expect(index.status).toBe(200);
    expect(index.headers.get('content-type')).toMatch(/^text\/html/);
    expect(index.headers.get('cache-control')).toBe('no-cache');
    expect(await index.text()).toContain('Quire');
    const script = await fetch(`${hub.url}/assets/worker-abc123.js`);
    expect(script.headers.get('content-type')).toMatch(/^text\/javascript/);
    expect(script.headers.get('cache-control')).toContain('immutable');
    expect((await fetch(`${hub.url}/assets/none.js`)).status).toBe(404);
  });
});

describe('endpoints', () => {
  it('one that is not among --endpoint-types is not there, the other is', async () => {
    await hub.close();
    hub = await startTestHub({ endpointTypes: ['completions'] });
    await ScriptedNode.join(hub.url);
    await complete(1);
    for (const path of [
      'chat/completions',
      'responses',
      'responses/resp_1/cancel',
      'messages',
      'messages/count_tokens',
    ]) {
      const response = await fetch(`${hub.url}/v1/${path}`, { method: 'POST', body: '{}' });
      expect(response.status).toBe(404);
      expect(await response.json()).toMatchObject({ error: { message: expect.stringContaining('--endpoint-types') } });
    }
  });
});
