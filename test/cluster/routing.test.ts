import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import type { RouterModeName } from '../../src/hub/router/mode.ts';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { snapshotParts } from '../../src/protocol/kv-events.ts';
import { PrefixCache } from '../support/prefix-cache.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { DEFAULT_KNOBS, startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

const hasher = await createBlockHasher('xxh3');
/** Six blocks and one token. */
const PROMPT = Array.from({ length: 97 }, (_, i) => 300 + i);

let hub: Hub;
afterEach(() => hub.close());

async function start(mode: RouterModeName = 'kv', nodes = 3) {
  hub = await startTestHub({ router: { mode, knobs: DEFAULT_KNOBS } });
  const joined: ScriptedNode[] = [];
  for (let i = 0; i < nodes; i++) joined.push(await ScriptedNode.join(hub.url));
  return joined;
}

/** A request as a client sends it; gives the whole answer with the headers. */
async function complete(body: object = {}, headers: Record<string, string> = {}) {
  const response = await fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model: 'quire-pico', prompt: PROMPT, max_tokens: 2, ...body }),
  });
  return {
    status: response.status,
    node: response.headers.get('x-quire-node'),
    overlap: response.headers.get('x-quire-overlap-blocks'),
    text: await response.text(),
  };
}

/** The node computes a prompt on its own and tells the hub what it stored. */
async function store(node: ScriptedNode, tokens: readonly number[], cache = new PrefixCache(hasher, 16)) {
  cache.compute(tokens);
  const events = cache.takeEvents();
  node.send({ type: 'kv_events', rank: 0, events });
  const last = events.at(-1)?.eventId ?? 0;
  await until(() => (hub.state().nodes.find(({ id }) => id === node.id)?.kvEvents.count ?? 0) >= last);
  return cache;
}

describe('KV-aware routing over real sockets', () => {
  it('goes where the prompt is cached, and the answer names node and overlap', async () => {
    const [a, b, c] = await start();
    await store(b!, PROMPT);
    for (let i = 0; i < 3; i++) expect(await complete()).toMatchObject({ status: 200, node: b!.id, overlap: '6' });
    expect(b!.of('generate')).toHaveLength(3);
    await store(c!, PROMPT.slice(0, 40));
    expect(await complete({ prompt: [...PROMPT.slice(0, 32), ...PROMPT.slice(0, 16)] })).toMatchObject({
      overlap: '2',
    });
    expect(a!.of('generate')).toHaveLength(0);
  });

  it("tells Dynamo's nvext where it is asked for, streaming and not, and nothing where not", async () => {
    const [, b] = await start();
    await store(b!, PROMPT);
    const nvext = { extra_fields: ['worker_id', 'timing'] };
    const told = {
      worker_id: { prefill_worker_id: b!.id, prefill_dp_rank: 0, decode_worker_id: b!.id, decode_dp_rank: 0 },
      timing: {
        request_received_ms: expect.any(Number),
        ttft_ms: expect.any(Number),
        total_time_ms: expect.any(Number),
        kv_hit_rate: 6 / 7,
      },
    };
    expect(JSON.parse((await complete({ nvext })).text).nvext).toEqual(told);
    expect(JSON.parse((await complete()).text).nvext).toBeUndefined();
    const streamed = await complete({ nvext, stream: true });
    expect(streamed).toMatchObject({ node: b!.id, overlap: '6' });
    const chunks = streamed.text.split('\n\n').filter((line) => line.startsWith('data: {'));
    expect(chunks.map((line) => JSON.parse(line.slice(6)).nvext)).toEqual([undefined, told]);
  });

  it('K8: what a lost event hides is forgotten, and a snapshot brings it back', async () => {
    const [a] = await start();
    const cache = await store(a!, PROMPT.slice(0, 32));
    cache.clear();
    cache.takeEvents();
    cache.compute(PROMPT);
    a!.send({ type: 'kv_events', rank: 0, events: cache.takeEvents() });
    await a!.next('kv_snapshot_request');
    expect(await complete()).toMatchObject({ overlap: '0' });
    for (const snapshot of snapshotParts(cache.snapshot(), 16)) a!.send({ type: 'kv_snapshot', rank: 0, snapshot });
    await until(() => hub.state().nodes[0]?.kvEvents.count === 3);
    expect(await complete()).toMatchObject({ node: a!.id, overlap: '6' });
  });

  it('K7: a node whose hash is wrong is closed, and its blocks are gone with it', async () => {
    const [a] = await start();
    const cache = await store(a!, PROMPT);
    cache.compute(PROMPT.map((id) => id + 1));
    const events = cache
      .takeEvents()
      .map((event) =>
        event.type === 'stored'
          ? { ...event, blocks: event.blocks.map((block) => ({ ...block, tokens: PROMPT.slice(0, 16) })) }
          : event,
      );
    a!.send({ type: 'kv_events', rank: 0, events });
    expect(await a!.closed).toMatchObject({ code: CLOSE.protocol, reason: expect.stringContaining('tokensHash') });
    expect(await complete()).toMatchObject({ status: 200, overlap: '0' });
  });

  it('K8: a node that comes back tells its cache with a snapshot, without any new event', async () => {
    const [a] = await start();
    const cache = await store(a!, PROMPT);
    const resume = { node: a!.id, token: a!.welcome!.resumeToken };
    await a!.leave();
    const again = await ScriptedNode.join(hub.url, { hello: { resume } });
    expect(again.id).toBe(resume.node);
    for (const snapshot of snapshotParts(cache.snapshot(), 16)) again.send({ type: 'kv_snapshot', rank: 0, snapshot });
    await until(() => hub.state().nodes.some(({ kvEvents }) => kvEvents.count === 1));
    expect(await complete()).toMatchObject({ node: resume.node, overlap: '6' });
  });

  it('the router knobs of a request count for it alone', async () => {
    const [a, b] = await start('kv', 2);
    await store(b!, PROMPT);
    // Without credit the cache is worth nothing, and of two idle nodes the first is taken.
    const nvext = { router_config_override: { overlap_score_credit: 0 } };
    expect(await complete({ nvext })).toMatchObject({ node: a!.id, overlap: '0' });
    expect(await complete()).toMatchObject({ node: b!.id });
    expect((await complete({ nvext: { router_config_override: { overlap_score_credit: 2 } } })).status).toBe(400);
  });
});

describe('who calls may name the node', () => {
  it('by header or by nvext, in any mode; direct needs it', async () => {
    const [a, , c] = await start('direct');
    expect(await complete({}, { 'x-quire-node': c!.id })).toMatchObject({ status: 200, node: c!.id });
    expect(await complete({ nvext: { backend_instance_id: a!.id } })).toMatchObject({ status: 200, node: a!.id });
    const unnamed = await complete();
    expect(unnamed).toMatchObject({ status: 400, node: null });
    expect(JSON.parse(unnamed.text).error).toMatchObject({
      code: 'node_unnamed',
      message: expect.stringContaining('x-quire-node'),
    });
    const absent = await complete({}, { 'x-quire-node': 'nobody' });
    expect(absent.status).toBe(503);
    expect(JSON.parse(absent.text).error).toMatchObject({ code: 'node_not_ready' });
    expect((await complete({ nvext: { backend_instance_id: a!.id } }, { 'x-quire-node': c!.id })).status).toBe(400);
  });

  it.each<RouterModeName>(['round-robin', 'least-loaded'])('%s spreads six requests over three nodes', async (mode) => {
    const nodes = await start(mode);
    await store(nodes[0]!, PROMPT);
    for (let i = 0; i < 6; i++) await complete();
    expect(nodes.map((node) => node.of('generate').length)).toEqual([2, 2, 2]);
  });
});
