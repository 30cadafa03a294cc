import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { Gate } from '../support/gate.ts';
import { LivingNode, type LivingNodeOptions } from '../support/living-node.ts';
import { ownPort } from '../support/own-port.ts';
import { scriptedToken } from '../support/scripted-engine.ts';
import { ScriptedNode, type ScriptedNodeOptions } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

const hasher = await createBlockHasher('xxh3');
const PROMPT = Array.from({ length: 65 }, (_, i) => 300 + i);
const tokens = (length: number) => Array.from({ length }, (_, offset) => scriptedToken(PROMPT, 0, offset));

let hub: Hub;
let living: LivingNode[] = [];
afterEach(async () => {
  await Promise.all(living.map(({ node }) => node.leave('now')));
  living = [];
  await hub.close();
});

async function join(count: number, options: Omit<LivingNodeOptions, 'hasher'> = {}): Promise<LivingNode[]> {
  const joined = Array.from({ length: count }, () => new LivingNode(hub.url, { hasher, ...options }));
  living.push(...joined);
  return Promise.all(joined.map((each) => each.ready()));
}

interface Answer {
  readonly status: number;
  readonly nodes?: { id: string; stage: string; detail: string }[];
  readonly is_sleeping?: boolean;
  readonly error?: { code: string; message: string };
}

async function admin(path: string): Promise<Answer> {
  const method = path.startsWith('/is_sleeping') ? 'GET' : 'POST';
  const response = await fetch(`${hub.url}${path}`, { method });
  return { status: response.status, ...((await response.json()) as object) };
}

const isSleeping = async (query = '') => (await admin(`/is_sleeping${query}`)).is_sleeping;
const stages = () => hub.state().nodes.map(({ stage }) => stage);

/** A request to its end; a streamed one that fails has the error as its last event. */
async function ask(maxTokens: number, headers: Record<string, string> = {}) {
  const response = await fetch(`${hub.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      ...{ model: 'quire-pico', prompt: PROMPT, max_tokens: maxTokens, stream: true },
      ...{ ignore_eos: true, return_token_ids: true, stream_options: { include_usage: true } },
    }),
  });
  const text = await response.text();
  if (!response.ok) return { status: response.status, ids: [], cached: null, error: JSON.parse(text).error };
  const events = text.split('\n\n').filter((event) => event.startsWith('data: {'));
  const chunks = events.map((event) => JSON.parse(event.slice(6)));
  return {
    status: response.status,
    ids: chunks.flatMap(({ choices = [] }) => choices.flatMap((c: { token_ids?: number[] }) => c.token_ids ?? [])),
    cached: chunks.find(({ usage }) => usage)?.usage.prompt_tokens_details.cached_tokens ?? null,
    error: chunks.find(({ error }) => error)?.error ?? null,
  };
}

describe.each([1, 2] as const)('a hub sleeps at level %d', (level) => {
  it('lets running requests end, refuses new ones by name, and answers as before once it is awake', async () => {
    hub = await startTestHub({ drainSeconds: 30 });
    const gate = new Gate();
    const nodes = await join(2, { gate });
    const ids = hub.state().nodes.map(({ id }) => id);
    const running = ask(40);
    await until(() => hub.state().inflightRequests === 1);
    expect(await isSleeping()).toBe(false);
    let over = false;
    const slept = admin(`/sleep?level=${level}`).finally(() => {
      over = true;
    });
    // The node without requests sleeps at once.
    await until(() => stages().includes('asleep'));
    const refused = await ask(2);
    expect(refused).toMatchObject({ status: 503, error: { code: 'asleep', type: 'service_unavailable' } });
    expect(refused.error.message).toContain('POST /wake_up');
    expect(over).toBe(false);
    expect(await isSleeping()).toBe(false);
    gate.open();
    expect(await running).toMatchObject({ ids: tokens(40), error: null });

    const { status, nodes: told } = await slept;
    expect(status).toBe(200);
    expect(told?.map(({ id, stage }) => ({ id, stage }))).toEqual(ids.map((id) => ({ id, stage: 'asleep' })));
    for (const { detail } of told ?? []) expect(detail).toContain(`at level ${level}`);
    expect(await isSleeping()).toBe(true);
    expect(nodes.map(({ snapshot }) => snapshot.stage)).toEqual(['asleep', 'asleep']);
    expect(nodes.map(({ engine }) => engine.closed)).toEqual([true, true]);
    const health = await fetch(`${hub.url}/health`);
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({
      status: 'asleep',
      message: expect.stringContaining('/wake_up'),
      endpoints: [],
      instances: [{ status: 'asleep' }, { status: 'asleep' }],
    });
    expect((await fetch(`${hub.url}/live`)).status).toBe(200);
    expect(await (await fetch(`${hub.url}/metrics`)).text()).toMatch(/quire_nodes\{[^}]*stage="asleep"\} 2/);

    expect(await admin('/wake_up')).toMatchObject({ status: 200, nodes: ids.map((id) => ({ id, stage: 'ready' })) });
    expect(await isSleeping()).toBe(false);
    expect(hub.state().nodes.map(({ id }) => id)).toEqual(ids);
    expect(await ask(12)).toMatchObject({ ids: tokens(12), cached: 0 });
    expect((await fetch(`${hub.url}/health`)).status).toBe(200);
    expect(nodes.map(({ engines }) => engines.length)).toEqual([2, 2]);
  });
});

describe('S1: what runs when nodes are put to sleep', () => {
  it('goes on on another node, where there is one, when its time is over', async () => {
    hub = await startTestHub({ drainSeconds: 0.2 });
    await join(2, { tokenMs: 20 });
    const [asked, other] = hub.state().nodes.map(({ id }) => id) as [string, string];
    const running = ask(50, { 'x-quire-node': asked });
    await until(() => hub.state().nodes[0]?.activeRequests === 1);
    expect(await admin(`/sleep?node=${asked}`)).toMatchObject({ status: 200, nodes: [{ id: asked, stage: 'asleep' }] });
    expect(await running).toMatchObject({ ids: tokens(50), error: null });
    expect(hub.state()).toMatchObject({
      migrations: 1,
      happenings: expect.arrayContaining([expect.objectContaining({ kind: 'migrated', from: asked, to: other })]),
    });
    expect([await isSleeping(), await isSleeping(`?node=${asked}`), await isSleeping(`?node=${other}`)]).toEqual([
      false,
      true,
      false,
    ]);
    expect(await ask(3)).toMatchObject({ status: 200, ids: tokens(3) });
    expect(await ask(3, { 'x-quire-node': asked })).toMatchObject({ status: 503, error: { code: 'node_not_ready' } });
    expect(await admin(`/wake_up?node=${asked}`)).toMatchObject({
      status: 200,
      nodes: [{ id: asked, stage: 'ready' }],
    });
    expect(await ask(3, { 'x-quire-node': asked })).toMatchObject({ status: 200, ids: tokens(3) });
  });

  it.each([
    ['when its time is over', '/sleep', 0.2],
    ['at once with mode=abort', '/sleep?mode=abort', 30],
  ])('fails where all sleep, %s, and its client is told how to wake them', async (_, path, drainSeconds) => {
    hub = await startTestHub({ drainSeconds });
    const [node] = await join(1, { tokenMs: 20 });
    const running = ask(500);
    await until(() => hub.state().inflightRequests === 1);
    await delay(50);
    expect(await admin(path)).toMatchObject({ status: 200, nodes: [{ stage: 'asleep' }] });
    const { ids, error } = await running;
    expect(error).toMatchObject({ code: 'asleep', message: expect.stringContaining('POST /wake_up') });
    expect(ids).toEqual(tokens(ids.length));
    expect(ids.length).toBeLessThan(500);
    expect(hub.state().inflightRequests).toBe(0);
    expect(node!.engine.cancelled).toHaveLength(1);
  });

  it('a call with mode=abort hurries one that waits', async () => {
    hub = await startTestHub({ drainSeconds: 30 });
    await join(1, { tokenMs: 20 });
    const running = ask(500);
    await until(() => hub.state().inflightRequests === 1);
    const waiting = admin('/sleep');
    await delay(50);
    expect(stages()).toEqual(['ready']);
    expect(await admin('/sleep?mode=abort')).toMatchObject({ status: 200 });
    expect(await waiting).toMatchObject({ status: 200 });
    expect((await running).error).toMatchObject({ code: 'asleep' });
  });
});

/** A node in the hands of the test; `asleep` tells its stage. */
async function scripted(options: ScriptedNodeOptions = {}) {
  const node = await ScriptedNode.join(hub.url, options);
  const stage = (name: 'asleep' | 'warming', detail = '') =>
    node.send({ type: 'stage', stage: name, detail, loadedBytes: 0, totalBytes: 0 });
  const register = () => node.send({ type: 'register', card: node.card() });
  return { node, stage, register };
}

describe('S2 to S5: nodes and what is wanted of them', () => {
  it('sleep twice, wake twice: the second call changes nothing', async () => {
    hub = await startTestHub();
    const [node] = await join(1);
    expect((await admin('/sleep?level=1')).nodes).toMatchObject([{ stage: 'asleep' }]);
    const again = await admin('/sleep?level=2');
    expect(again).toEqual({ status: 200, nodes: [] });
    expect(node!.snapshot.detail).toContain('at level 1');
    expect((await admin('/wake_up')).nodes).toMatchObject([{ stage: 'ready' }]);
    expect(await admin('/wake_up')).toEqual({ status: 200, nodes: [] });
    expect(node!.engines).toHaveLength(2);
  });

  it('woken before its last request ended, a node never sleeps, and who asked for it is told', async () => {
    hub = await startTestHub({ drainSeconds: 30 });
    const gate = new Gate();
    const { node } = await scripted({ gate });
    const running = ask(30);
    await until(() => hub.state().inflightRequests === 1);
    const slept = admin('/sleep');
    await until(() => hub.state().models[0]?.readyNodes === 0);
    expect((await ask(1)).status).toBe(503);
    expect(await admin('/wake_up')).toMatchObject({ status: 200, nodes: [{ stage: 'ready' }] });
    expect(await slept).toMatchObject({ status: 409, error: { code: 'conflict' } });
    gate.open();
    expect((await ask(1)).status).toBe(200);
    expect((await running).error).toBeNull();
    expect(node.of('sleep')).toEqual([]);
    await node.leave();
  });

  it('woken while it falls asleep, it is told to wake up once it sleeps', async () => {
    hub = await startTestHub();
    const { node, stage, register } = await scripted();
    const slept = admin('/sleep?level=2');
    expect(await node.next('sleep')).toEqual({ type: 'sleep', level: 2 });
    const woken = admin('/wake_up');
    expect(await slept).toMatchObject({ status: 409 });
    expect(node.of('wake')).toEqual([]);
    expect((await ask(1)).status).toBe(503);
    stage('asleep');
    await node.next('wake');
    stage('warming');
    register();
    expect(await woken).toMatchObject({ status: 200, nodes: [{ stage: 'ready' }] });
    expect(node.of('wake')).toHaveLength(1);
    await node.leave();
  });

  it('put to sleep while it wakes up, it sleeps again once it is registered', async () => {
    hub = await startTestHub();
    const { node, stage, register } = await scripted();
    const slept = admin('/sleep');
    await node.next('sleep');
    stage('asleep');
    await slept;
    const woken = admin('/wake_up');
    await node.next('wake');
    stage('warming');
    await until(() => stages()[0] === 'warming');
    // Nothing serves, so nothing has to be waited for.
    expect(await admin('/sleep?level=2')).toEqual({ status: 200, nodes: [] });
    expect(await woken).toMatchObject({ status: 409, error: { code: 'conflict' } });
    expect(await isSleeping()).toBe(true);
    register();
    expect(await node.next('sleep', 1)).toEqual({ type: 'sleep', level: 2 });
    expect((await ask(1)).error).toMatchObject({ code: 'asleep' });
    await node.leave();
  });

  it('S4: a node that joins a hub that sleeps is put to sleep, and computes nothing first', async () => {
    hub = await startTestHub();
    expect(await admin('/sleep')).toEqual({ status: 200, nodes: [] });
    expect(await isSleeping()).toBe(true);
    expect((await ask(1)).error).toMatchObject({ code: 'asleep' });
    const { node, stage } = await scripted();
    expect(await node.next('sleep')).toEqual({ type: 'sleep', level: 1 });
    expect((await ask(1)).error).toMatchObject({ code: 'asleep' });
    stage('asleep');
    await until(() => stages()[0] === 'asleep');
    expect(node.of('generate')).toEqual([]);
    await node.leave();
  });

  it('S5: lost in its sleep, it sleeps on when it comes back, until it is to wake up', async () => {
    hub = await startTestHub({ port: await ownPort() });
    const [node] = await join(1);
    await admin('/sleep');
    const { id } = hub.state().nodes[0]!;
    await hub.close();
    // A hub that knows nothing of it wants it awake.
    hub = await startTestHub({ port: hub.port });
    await until(() => node!.engines.length === 2);
    await until(() => stages()[0] === 'ready');
    expect(await ask(3)).toMatchObject({ ids: tokens(3) });
    expect(hub.state().nodes[0]?.id).not.toBe(id);
  });

  it('S5: the same with a hub that stayed', async () => {
    hub = await startTestHub();
    const { node, stage } = await scripted();
    const slept = admin(`/sleep?node=${node.id}`);
    await node.next('sleep');
    stage('asleep');
    await slept;
    const resume = { node: node.id, token: node.welcome!.resumeToken };
    await node.leave();
    await until(() => hub.state().nodes.length === 0);
    const back = await ScriptedNode.greet(hub.url, { hello: { resume } });
    back.send({ type: 'stage', stage: 'asleep', detail: 'still', loadedBytes: 0, totalBytes: 0 });
    await until(() => stages()[0] === 'asleep');
    expect(await isSleeping(`?node=${back.id}`)).toBe(true);
    expect(back.of('wake')).toEqual([]);
    const woken = admin('/wake_up');
    await back.next('wake');
    back.send({ type: 'register', card: back.card() });
    expect(await woken).toMatchObject({ status: 200, nodes: [{ id: back.id, stage: 'ready' }] });
    await back.leave();
  });

  it('a node that goes instead of waking up holds nobody up', async () => {
    hub = await startTestHub();
    const { node, stage } = await scripted();
    const slept = admin('/sleep');
    await node.next('sleep');
    stage('asleep');
    await slept;
    const woken = admin('/wake_up');
    await node.next('wake');
    node.send({ type: 'error', code: 'engine', message: 'the self-test failed' });
    await node.leave();
    expect(await woken).toMatchObject({ status: 200, nodes: [{ stage: 'gone', detail: 'the self-test failed' }] });
  });

  it('a name that no node has is refused', async () => {
    hub = await startTestHub();
    for (const path of ['/sleep?node=x', '/wake_up?node=x', '/is_sleeping?node=x'])
      expect(await admin(path)).toMatchObject({ status: 404, error: { code: 'node_not_found' } });
  });

  it('nodes that sleep are not probed', async () => {
    const defaults = (await import('../../src/hub/health/payload.ts')).readCanaryPayload(null);
    hub = await startTestHub({ healthCheck: { waitMs: 50, timeoutMs: 60_000, payload: defaults } });
    const { node, stage } = await scripted();
    await until(() => node.of('generate').length >= 2);
    const slept = admin('/sleep');
    await node.next('sleep');
    const probes = node.of('generate').length;
    await delay(300);
    stage('asleep');
    await slept;
    await delay(300);
    expect(node.of('generate')).toHaveLength(probes);
    expect(hub.state().nodes[0]?.unhealthy).toBeNull();
    await node.leave();
  });

  it('a hub that stops keeps nobody waiting for its nodes', async () => {
    hub = await startTestHub();
    const { node } = await scripted();
    const slept = admin('/sleep');
    await node.next('sleep');
    await hub.close();
    expect(await slept).toMatchObject({ status: 503, error: { code: 'hub_stopping' } });
    await node.closed;
  });
});
