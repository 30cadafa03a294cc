import { afterEach, describe, expect, it } from 'vitest';
import { type CanaryPayload, DEFAULT_CANARY } from '../../src/hub/health/payload.ts';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Gate } from '../support/gate.ts';
import { LivingNode } from '../support/living-node.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
/** The hub's time stands still but where a test moves it. */
let clock: FakeClock;
afterEach(() => hub.close());

const CHECK = { waitMs: 100, timeoutMs: 150, payload: DEFAULT_CANARY };

async function start(payload: CanaryPayload = DEFAULT_CANARY): Promise<void> {
  clock = new FakeClock();
  hub = await startTestHub({ healthCheck: { ...CHECK, payload } }, {}, undefined, clock);
}

/** Resolves when the hub has the answers of a node to so many requests. */
async function answered(node: ScriptedNode, requests: number): Promise<void> {
  await until(() => node.quiet.length === requests);
  await node.heard();
}

const health = async () => {
  const response = await fetch(`${hub.url}/health`);
  const body = (await response.json()) as { status: string; instances: { status: string; detail: string }[] };
  return { status: response.status, body };
};

describe('canaries', () => {
  it('H1: go the whole way of a request: one token after the model’s BOS, out of the cache, each time under another id', async () => {
    await start();
    const node = await ScriptedNode.join(hub.url);
    clock.advance(200);
    await answered(node, 1);
    clock.advance(100);
    const { generate } = await node.next('generate', 1);
    expect(generate).toMatchObject({ prompt: [1], cache: false, sampling: { maxTokens: 1, temperature: 0 } });
    expect(generate.request).not.toBe(node.of('generate')[0]!.generate.request);
    expect(await health()).toMatchObject({ status: 200, body: { instances: [{ status: 'ready' }] } });
    expect(hub.state()).toMatchObject({ inflightRequests: 0, happenings: [] });
  });

  it('H2: a node that hangs leaves discovery, is listed as unhealthy, and comes back when a canary passes', async () => {
    await start();
    let hangs = false;
    const reply = () => (hangs ? [] : [5]);
    const node = await ScriptedNode.join(hub.url, { reply });
    clock.advance(200);
    await answered(node, 1);
    hangs = true;
    clock.advance(100);
    await answered(node, 2);
    clock.advance(149);
    expect(hub.state().nodes[0]?.unhealthy).toBeNull();
    clock.advance(1);
    expect(await health()).toMatchObject({
      status: 503,
      body: { status: 'unhealthy', instances: [{ status: 'unhealthy', detail: expect.stringContaining('0.15 s') }] },
    });
    await node.next('cancel');
    const asked = await fetch(`${hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'quire-pico', prompt: [1, 2], max_tokens: 2 }),
    });
    expect(asked.status).toBe(503);
    hangs = false;
    clock.advance(200);
    await answered(node, 3);
    expect(hub.state().nodes[0]?.unhealthy).toBeNull();
    expect((await health()).status).toBe(200);
  });

  it('H1: a node at work is not probed', async () => {
    await start();
    const gate = new Gate();
    const node = await ScriptedNode.join(hub.url, { gate });
    const asked = fetch(`${hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'quire-pico', prompt: [1, 2], max_tokens: 60, ignore_eos: true }),
    });
    await node.next('generate');
    clock.advance(1000);
    await node.heard();
    expect(node.of('generate').map(({ generate }) => generate.cache)).toEqual([undefined]);
    gate.open();
    expect((await asked).status).toBe(200);
    clock.advance(200);
    expect((await node.next('generate', 1)).generate.cache).toBe(false);
  });

  it('H3: pass on a whole node, and leave nothing in its cache', async () => {
    await start({ prompt: [7, 8], maxTokens: 2, temperature: 0 });
    const node = await new LivingNode(hub.url, { hasher: await createBlockHasher('xxh3') }).ready();
    const sampled = () => node.engine.load().counters.sampledTokens;
    clock.advance(200);
    await until(() => sampled() === 2);
    // The next one is sent when the hub has the answer to this one.
    await until(() => {
      clock.advance(1);
      return sampled() > 2;
    });
    expect(hub.state().nodes).toMatchObject([{ unhealthy: null, kvEvents: { count: 0 } }]);
    await node.node.leave('now');
  });

  it('a payload that a model cannot compute ends the start with one line', async () => {
    const payload = { prompt: [1_000_000], maxTokens: 1, temperature: 0 };
    await expect(startTestHub({ healthCheck: { ...CHECK, payload } })).rejects.toThrow(
      /--health-check-payload.*1000000/,
    );
    hub = await startTestHub();
  });
});
