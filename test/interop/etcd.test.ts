import OpenAI from 'openai';
import { afterEach, describe, expect, it } from 'vitest';
import { startBridgedHub } from '../support/bridged-hub.ts';
import { DynamoFrontend, ETCD, etcdDeployment } from '../support/dynamo-frontend.ts';
import { ScriptedNode } from '../support/scripted-node.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

/** etcd, with a hub that registers there. */
async function start() {
  const deployment = await etcdDeployment();
  open.push(deployment);
  const hub = await startBridgedHub(deployment);
  open.push(hub);
  return { deployment, hub };
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 30_000; !(await condition()); await new Promise((resolve) => setTimeout(resolve, 50)))
    if (Date.now() > end) throw new Error(`not so in 30 s: ${condition}`);
}

describe.skipIf(ETCD === null)('a deployment in a real etcd (skipped where etcd is not installed)', () => {
  it('has the nodes as workers while they are there', async () => {
    const { deployment, hub } = await start();
    const frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
    open.push(frontend);
    const node = await ScriptedNode.join(hub.url);
    await frontend.serves('quire-pico');
    const client = new OpenAI({ baseURL: `${frontend.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    const answer = await client.chat.completions.create({ model: 'quire-pico', messages, max_tokens: 8 });
    expect(answer.usage?.completion_tokens).toBe(8);
    await node.leave();
    await frontend.until('the model is gone', async () => (await frontend.models()).length === 0, 8000);
    await until(async () => !(await deployment.keys()).some((key) => key.includes('quire-pico')));
  });

  it('is told of them anew when it lost all, and of nobody when the hub ends', async () => {
    const { deployment, hub } = await start();
    await ScriptedNode.join(hub.url);
    const own = async () => (await deployment.keys()).filter((key) => key.includes('quire-pico')).sort();
    await until(async () => (await own()).length === 6);
    const before = await own();
    expect(new Set(before.map((key) => key.split('/').slice(0, 2).join('/')))).toEqual(
      new Set(['v1/event_channels', 'v1/event_sources', 'v1/instances', 'v1/mdc']),
    );
    await deployment.restart();
    await until(async () => (await own()).length === 6);
    expect(await own()).toEqual(before);
    await hub.close();
    expect(await own()).toEqual([]);
  });
});
