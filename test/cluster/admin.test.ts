import { networkInterfaces } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { lanAddresses } from '../../src/hub/launch/network.ts';
import { GpulessCluster } from '../support/gpuless-cluster.ts';
import type { GpulessNode } from '../support/gpuless-node.ts';
import { RawRequest } from '../support/raw-request.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { until } from '../support/until.ts';

let cluster: GpulessCluster | null = null;
afterEach(async () => {
  await cluster?.close();
  cluster = null;
});

/** An admin call from this machine, with headers that `fetch` would not let a caller set. */
async function post(path: string, headers: Record<string, string> = {}, host = '127.0.0.1') {
  const { answer } = new RawRequest(`http://${host}:${cluster!.hub.port}${path}`, 'POST', null, headers);
  const { status, body } = await answer;
  return { status, ...(JSON.parse(body) as { nodes?: number; error?: { code: string } }) };
}

describe('who may make an admin call', () => {
  const RESET = '/reset_prefix_cache';
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

  it('without an admin key: this machine, by no page but the hub’s own; an API key is none and is not asked for', async () => {
    cluster = await GpulessCluster.start({ apiKeys: ['api'], allowedOrigins: ['https://chat.example'] });
    expect(await post(RESET)).toEqual({ status: 200, nodes: 0 });
    expect(await post(RESET, { origin: cluster.url })).toMatchObject({ status: 200 });
    for (const origin of ['https://evil.example', 'https://chat.example', 'null']) {
      expect(await post(RESET, { origin, ...bearer('api') })).toMatchObject({
        status: 403,
        error: { code: 'forbidden' },
      });
    }
    expect(await post(RESET, { host: 'evil.example' })).toMatchObject({ status: 403 });
  });

  const [address] = lanAddresses(networkInterfaces());
  it.skipIf(address === undefined)('and no other machine', async () => {
    cluster = await GpulessCluster.start({ host: '0.0.0.0', apiKeys: ['api'] });
    for (const headers of [{}, bearer('api'), { host: `localhost:${cluster.hub.port}` }])
      expect(await post(RESET, headers, address)).toMatchObject({ status: 403, error: { code: 'forbidden' } });
    expect(await post(RESET)).toMatchObject({ status: 200 });
  });

  it('with one: who has it, and nobody else', async () => {
    cluster = await GpulessCluster.start({ apiKeys: ['api'], adminKey: 'admin' });
    expect(await post(RESET, bearer('admin'))).toEqual({ status: 200, nodes: 0 });
    for (const headers of [{}, bearer('api'), bearer('adm'), { origin: cluster.url }])
      expect(await post(RESET, headers)).toMatchObject({ status: 401, error: { code: 'invalid_admin_key' } });
    // It opens no more than it is for.
    const { answer } = new RawRequest(`${cluster.url}/v1/models`, 'GET', null, bearer('admin'));
    expect((await answer).status).toBe(401);
  });
});

describe('POST /reset_prefix_cache', () => {
  const PROMPT = Array.from({ length: 65 }, (_, i) => 300 + i);

  async function ask(node: GpulessNode, maxTokens = 2) {
    const response = await fetch(`${cluster!.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-quire-node': node.id },
      body: JSON.stringify({ model: 'quire-pico', prompt: PROMPT, max_tokens: maxTokens }),
    });
    const body = (await response.json()) as { usage: { prompt_tokens_details: { cached_tokens: number } } };
    return {
      cached: body.usage.prompt_tokens_details.cached_tokens,
      overlap: response.headers.get('x-quire-overlap-blocks'),
    };
  }

  const events = (node: GpulessNode) =>
    cluster!.hub.state().nodes.find(({ id }) => id === node.id)?.kvEvents.count ?? 0;

  it('K12: every node forgets, and the router with it', async () => {
    cluster = await GpulessCluster.start();
    const nodes = [await cluster.join(), await cluster.join()];
    for (const node of nodes) {
      expect(await ask(node)).toEqual({ cached: 0, overlap: '0' });
      await until(() => events(node) > 0);
      expect(await ask(node)).toEqual({ cached: 64, overlap: '4' });
    }
    const before = nodes.map(events);
    expect(await post('/reset_prefix_cache')).toEqual({ status: 200, nodes: 2 });
    await until(() => nodes.every((node, i) => events(node) === before[i]! + 1));
    for (const node of nodes) {
      expect(node.engine?.snapshot().blocks).toEqual([]);
      expect(await ask(node)).toEqual({ cached: 0, overlap: '0' });
      await until(() => events(node) > before[0]! + 1);
      expect(await ask(node)).toEqual({ cached: 64, overlap: '4' });
    }
  });

  it('K12: what runs then goes on undisturbed, and nobody hits its blocks', async () => {
    cluster = await GpulessCluster.start();
    const node = await cluster.join({ stepMs: () => 5 });
    const running = ask(node, 40);
    await until(() => (node.engine?.snapshot().blocks.length ?? 0) > 0);
    expect(await post('/reset_prefix_cache')).toEqual({ status: 200, nodes: 1 });
    expect(node.engine?.snapshot().blocks).toEqual([]);
    expect((await ask(node)).cached).toBe(0);
    expect(await running).toMatchObject({ cached: 0 });
    expect(node.faults).toEqual([]);
  });

  it('K12: a node that is away forgets when it is registered again, once', async () => {
    cluster = await GpulessCluster.start();
    const node = await ScriptedNode.join(cluster.url);
    const resume = { node: node.id, token: node.welcome!.resumeToken };
    await node.leave();
    await until(() => cluster!.hub.state().nodes.length === 0);
    expect(await post('/reset_prefix_cache')).toEqual({ status: 200, nodes: 0 });
    const back = await ScriptedNode.join(cluster.url, { hello: { resume } });
    expect(back.id).toBe(node.id);
    await back.next('reset_prefix_cache');
    const types = back.received.map(({ type }) => type);
    expect(types.indexOf('reset_prefix_cache')).toBeGreaterThan(types.indexOf('registered'));
    await back.leave();
    const again = await ScriptedNode.join(cluster.url, { hello: { resume } });
    await again.next('registered');
    const other = await ScriptedNode.join(cluster.url);
    await post('/reset_prefix_cache');
    for (const each of [again, other]) {
      await each.next('reset_prefix_cache');
      expect(each.of('reset_prefix_cache')).toHaveLength(1);
      await each.leave();
    }
  });
});
