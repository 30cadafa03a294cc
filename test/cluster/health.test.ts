import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_CANARY } from '../../src/hub/health/payload.ts';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { LivingNode } from '../support/living-node.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
afterEach(() => hub.close());

const CHECK = { waitMs: 100, timeoutMs: 150, payload: DEFAULT_CANARY };

const health = async () => {
  const response = await fetch(`${hub.url}/health`);
  const body = (await response.json()) as { status: string; instances: { status: string; detail: string }[] };
  return { status: response.status, body };
};

describe('canaries', () => {
  it('H1: go the whole way of a request: one token after the model’s BOS, out of the cache, each time under another id', async () => {
    hub = await startTestHub({ healthCheck: CHECK });
    const node = await ScriptedNode.join(hub.url);
    const { generate } = await node.next('generate', 1);
    expect(generate).toMatchObject({ prompt: [1], cache: false, sampling: { maxTokens: 1, temperature: 0 } });
    expect(generate.request).not.toBe(node.of('generate')[0]!.generate.request);
    expect(await health()).toMatchObject({ status: 200, body: { instances: [{ status: 'ready' }] } });
    expect(hub.state()).toMatchObject({ inflightRequests: 0, happenings: [] });
  });

  it('H2: a node that hangs leaves discovery, is listed as unhealthy, and comes back when a canary passes', async () => {
    hub = await startTestHub({ healthCheck: CHECK });
    let hangs = false;
    const reply = () => (hangs ? [] : [5]);
    const node = await ScriptedNode.join(hub.url, { reply });
    await node.next('generate');
    hangs = true;
    await until(() => hub.state().nodes[0]?.unhealthy !== null);
    expect(await health()).toMatchObject({
      status: 503,
      body: { status: 'unhealthy', instances: [{ status: 'unhealthy', detail: expect.stringContaining('0.15 s') }] },
    });
    expect(node.of('cancel').length).toBeGreaterThan(0);
    const asked = await fetch(`${hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'quire-pico', prompt: [1, 2], max_tokens: 2 }),
    });
    expect(asked.status).toBe(503);
    hangs = false;
    await until(() => hub.state().nodes[0]?.unhealthy === null);
    expect((await health()).status).toBe(200);
  });

  it('H1: a node at work is not probed', async () => {
    hub = await startTestHub({ healthCheck: CHECK });
    const node = await ScriptedNode.join(hub.url, { tokenMs: 20 });
    await fetch(`${hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'quire-pico', prompt: [1, 2], max_tokens: 60, ignore_eos: true }),
    });
    const probes = node.of('generate').filter(({ generate }) => generate.cache === false);
    expect(node.of('generate').some(({ generate }) => generate.cache === undefined)).toBe(true);
    expect(probes.length).toBeLessThanOrEqual(1);
  });

  it('H3: pass on a whole node, and leave nothing in its cache', async () => {
    hub = await startTestHub({ healthCheck: { ...CHECK, payload: { prompt: [7, 8], maxTokens: 2, temperature: 0 } } });
    const node = await new LivingNode(hub.url, { hasher: await createBlockHasher('xxh3') }).ready();
    await delay(600);
    expect(node.engine.load().counters.sampledTokens).toBeGreaterThanOrEqual(2);
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
