import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { PICO, startTestHub } from '../support/test-hub.ts';

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
  const nodes = await Promise.all(Array.from({ length: 200 }, () => ScriptedNode.join(url, { tokenMs: 200 })));
  expect(hub.state().models[0]?.readyNodes).toBe(200);
  await Promise.all(nodes.map((_, i) => complete(url, 'quire-pico', [i])));
  // Requests that overlap never share a node while another has none; only a late one may meet a node that is free again.
  const asked = nodes.map((node) => node.of('generate').length);
  expect(asked.reduce((a, b) => a + b)).toBe(200);
  expect(Math.max(...asked)).toBeLessThanOrEqual(4);
  for (const node of nodes.slice(0, 100)) node.socket.terminate();
  while (hub.state().nodes.length > 100) await new Promise((resolve) => setTimeout(resolve, 5));
  await Promise.all(nodes.slice(0, 50).map((_, i) => complete(url, 'quire-pico', [i])));
});

it('two models: new nodes go where fewest are, and a request goes to nodes of its model only', async () => {
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
  while (hub.state().nodes.length > 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const again = await ScriptedNode.greet(url, {
    hello: { resume: { node: second.id, token: second.welcome!.resumeToken } },
  });
  expect(again.welcome?.model.name).toBe('other');
});
