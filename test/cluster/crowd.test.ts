import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { Gate } from '../support/gate.ts';
import { ScriptedNode, type ScriptedNodeOptions } from '../support/scripted-node.ts';
import { PICO, startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub | null = null;
let scratch: string | null = null;
afterEach(async () => {
  await hub?.close({ graceSeconds: 0 });
  if (scratch !== null) await rm(scratch, { recursive: true });
  hub = null;
  scratch = null;
});

async function complete(url: string, model: string, prompt: number[]): Promise<number[]> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt, max_tokens: 2, return_token_ids: true }),
  });
  expect(response.status).toBe(200);
  const body = (await response.json()) as { choices: { token_ids: number[] }[] };
  return body.choices[0]!.token_ids;
}

it('200 nodes: each gets its share of a burst, and half of them may leave at once', async () => {
  hub = await startTestHub();
  const { url } = hub;
  const gate = new Gate();
  const nodes = await Promise.all(Array.from({ length: 200 }, () => ScriptedNode.join(url, { gate })));
  expect(hub.state().models[0]?.readyNodes).toBe(200);
  const answers = nodes.map((_, i) => complete(url, 'quire-pico', [i]));
  // None shares a node while another has none.
  await Promise.all(nodes.map((node) => node.next('generate')));
  gate.open();
  await Promise.all(answers);
  expect(nodes.map((node) => node.of('generate').length)).toEqual(Array(200).fill(1));
  for (const node of nodes.slice(0, 100)) node.socket.terminate();
  await until(() => hub?.state().nodes.length === 100);
  await Promise.all(nodes.slice(0, 50).map((_, i) => complete(url, 'quire-pico', [i])));
});

it('two models: a new node gets the one that nobody has, and a request goes to nodes of its model only', async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'quire-two-'));
  const other = path.join(scratch, 'other');
  await cp(PICO, other, { recursive: true });
  // Another configuration makes it another model.
  await writeFile(path.join(other, 'config.json'), `${await readFile(path.join(PICO, 'config.json'), 'utf8')}\n`);
  hub = await startTestHub({ models: [PICO, other].map((folder) => ({ folder, servedName: null })) });
  const { url } = hub;
  const first = await ScriptedNode.join(url, { reply: () => [1001, 1001] });
  const response = await fetch(`${url}/health`);
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ status: 'degraded', endpoints: ['quire-pico'] });
  const second = await ScriptedNode.join(url, { reply: () => [1002, 1002] });
  expect([first, second].map((node) => node.welcome?.model.name)).toEqual(['quire-pico', 'other']);
  expect(first.welcome?.model.fingerprint).not.toBe(second.welcome?.model.fingerprint);
  for (let i = 0; i < 4; i++) {
    expect(await complete(url, 'other', [5])).toEqual([1002, 1002]);
    expect(await complete(url, 'quire-pico', [5])).toEqual([1001, 1001]);
  }
  await second.leave();
  await until(() => hub?.state().nodes.length === 1);
  const again = await ScriptedNode.greet(url, {
    hello: { resume: { node: second.id, token: second.welcome!.resumeToken } },
  });
  expect(again.welcome?.model.name).toBe('other');
});

it('J11: two models: a node is offered the largest that fits its adapter, and keeps it when it comes back', async () => {
  scratch = await mkdtemp(path.join(tmpdir(), 'quire-sizes-'));
  const large = path.join(scratch, 'large');
  await cp(PICO, large, { recursive: true });
  await writeFile(path.join(large, 'more.safetensors'), new Uint8Array(192 << 20));
  hub = await startTestHub({ models: [PICO, large].map((folder) => ({ folder, servedName: null })) });
  const { url } = hub;
  const room = (mib: number, software = false) => ({
    maxBufferSize: mib << 20,
    maxStorageBufferBindingSize: mib << 20,
    software,
  });
  const offered = async (hello: ScriptedNodeOptions['hello']) => {
    const node = await ScriptedNode.join(url, hello === undefined ? {} : { hello });
    return [node, node.welcome!.model.name] as const;
  };
  // Nobody has the large one, but it does not fit.
  const [first, small] = await offered({ room: room(128) });
  expect(small).toBe('quire-pico');
  const [second, its] = await offered({ room: room(1024) });
  expect(its).toBe('large');
  expect((await offered({ room: room(1024) }))[1]).toBe('large');
  // A quarter of 640 MiB on a software adapter, unless its page asks for more.
  const [third, onCpu] = await offered({ room: room(640, true) });
  expect(onCpu).toBe('quire-pico');
  expect((await offered({ room: room(640, true), query: '?gpu-memory-utilization=0.9' }))[1]).toBe('large');
  // Every node of the small one leaves: the next page gets it though the large one fits too.
  await Promise.all([first.leave(), third.leave()]);
  await until(() => !hub?.state().nodes.some(({ model }) => model === 'quire-pico'));
  expect((await offered({ room: room(1024) }))[1]).toBe('quire-pico');
  const resume = { node: second.id, token: second.welcome!.resumeToken };
  expect((await offered({ room: room(128), resume }))[1]).toBe('large');
});
