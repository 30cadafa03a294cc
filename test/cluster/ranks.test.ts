import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { Gate } from '../support/gate.ts';
import { PrefixCache } from '../support/prefix-cache.ts';
import { ScriptedNode, type ScriptedNodeOptions } from '../support/scripted-node.ts';
import { DEFAULT_KNOBS, startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

const hasher = await createBlockHasher('xxh3');
/** Six blocks and one token. */
const PROMPT = Array.from({ length: 97 }, (_, i) => 300 + i);

let hub: Hub;
afterEach(() => hub.close());

/** A hub with one node of three ranks, 1 to 3. */
async function start(options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
  hub = await startTestHub({ router: { mode: 'kv', knobs: DEFAULT_KNOBS } });
  return ScriptedNode.join(hub.url, { card: { dpRank: 1, dpSize: 3 }, ...options });
}

async function complete(body: object = {}, headers: Record<string, string> = {}) {
  const response = await fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'quire-pico', prompt: PROMPT, max_tokens: 2, ...body }),
  });
  const rank = response.headers.get('x-quire-dp-rank');
  const overlap = response.headers.get('x-quire-overlap-blocks');
  return { status: response.status, rank, overlap, text: await response.text() };
}

const ranksAsked = (node: ScriptedNode) => node.of('generate').map(({ rank }) => rank);

describe('G1: the router chooses (node, rank)', () => {
  it('requests that come together spread over the ranks of one node', async () => {
    const gate = new Gate();
    const node = await start({ gate });
    const asked = Array.from({ length: 6 }, (_, i) => complete({ prompt: [i + 1, 2, 3] }));
    await node.next('generate', 5);
    gate.open();
    const answers = await Promise.all(asked);
    expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(200));
    expect(ranksAsked(node).sort()).toEqual([1, 1, 2, 2, 3, 3]);
    expect(hub.state().happenings.filter(({ kind }) => kind === 'routed')).toMatchObject(
      ranksAsked(node).map(() => ({ rank: expect.any(Number) })),
    );
  });

  it('a prompt goes to the rank whose cache has it, and the answer says which', async () => {
    const node = await start();
    const cache = new PrefixCache(hasher, 16);
    cache.compute(PROMPT);
    node.send({ type: 'kv_events', rank: 2, events: cache.takeEvents() });
    await until(() => hub.state().nodes[0]?.kvEvents.count === 1);
    for (let i = 0; i < 3; i++) expect(await complete()).toMatchObject({ status: 200, rank: '2', overlap: '6' });
    const nvext = { extra_fields: ['worker_id'] };
    expect(JSON.parse((await complete({ nvext })).text).nvext.worker_id).toEqual({
      ...{ prefill_worker_id: node.id, prefill_dp_rank: 2 },
      ...{ decode_worker_id: node.id, decode_dp_rank: 2 },
    });
    expect(ranksAsked(node)).toEqual([2, 2, 2, 2]);
  });

  it("a request may name its rank, in vLLM's header or in Dynamo's field", async () => {
    const node = await start();
    expect((await complete({}, { 'x-data-parallel-rank': '3' })).rank).toBe('3');
    expect((await complete({ nvext: { dp_rank: 1, backend_instance_id: node.id } })).rank).toBe('1');
    expect(ranksAsked(node)).toEqual([3, 1]);
    expect(await complete({ nvext: { dp_rank: 0 } })).toMatchObject({
      status: 503,
      text: expect.stringContaining('with rank 0'),
    });
    expect((await complete({ nvext: { dp_rank: 1 } }, { 'x-data-parallel-rank': '3' })).status).toBe(400);
    expect((await complete({}, { 'x-data-parallel-rank': 'three' })).status).toBe(400);
  });

  it('state and metrics tell each rank by itself', async () => {
    const node = await start();
    for (const rank of [3, 1]) node.load({ steps: 10 * rank, preemptions: rank }, { rank, running: rank });
    await until(() => hub.state().nodes[0]?.loads.length === 2);
    expect(hub.state().nodes[0]?.loads).toMatchObject([
      { rank: 1, running: 1 },
      { rank: 3, running: 3 },
    ]);
    const metrics = await (await fetch(`${hub.url}/metrics`)).text();
    expect(metrics).toContain('vllm:num_requests_running{model_name="quire-pico"} 4');
    expect(metrics).toContain('vllm:num_preemptions_total{model_name="quire-pico"} 4');
    for (const rank of [1, 3])
      expect(metrics).toContain(`node="${node.id}",dp_rank="${rank}",model_name="quire-pico"} ${10 * rank}`);
  });

  it('H1: health checks go to its ranks in turn', async () => {
    hub = await startTestHub({
      healthCheck: { waitMs: 30, timeoutMs: 60_000, payload: { prompt: null, maxTokens: 1, temperature: 0 } },
    });
    const node = await ScriptedNode.join(hub.url, { card: { dpRank: 1, dpSize: 3 } });
    await until(() => ranksAsked(node).length >= 4);
    expect(ranksAsked(node).slice(0, 4)).toEqual([1, 2, 3, 1]);
  });
});
