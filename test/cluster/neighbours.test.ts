import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { ScriptedNode, scriptedTokens } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

/** M4: what one node or one client does hurts nobody else: streams of other nodes go on, whole and in order. */

const STREAMS = 8;
const TOKENS = 80;

let hub: Hub;
let good: ScriptedNode;
beforeEach(async () => {
  hub = await startTestHub({ migrationLimit: 0 }, { messagesPerSecond: 500, maxBufferedBytes: 64 << 10 });
  good = await ScriptedNode.join(hub.url, { tokenMs: 5 });
});
afterEach(() => hub.close());

/** A stream of /v1/completions on a named node, of which nothing is read yet. */
async function open(node: ScriptedNode, prompt: number[], max_tokens: number): Promise<IncomingMessage> {
  const body = JSON.stringify({
    model: 'quire-pico',
    prompt,
    max_tokens,
    ignore_eos: true,
    stream: true,
    return_token_ids: true,
  });
  const headers = { 'content-type': 'application/json', 'x-quire-node': node.id };
  const sent = request(`${hub.url}/v1/completions`, { method: 'POST', headers, agent: false });
  sent.end(body);
  sent.on('error', () => {});
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return response;
}

async function tokensOf(response: IncomingMessage): Promise<number[]> {
  expect(response.statusCode).toBe(200);
  let text = '';
  for await (const bytes of response) text += bytes;
  const events = text.split('\n\n').filter((event) => event.startsWith('data: {'));
  return events.flatMap((event) => JSON.parse(event.slice('data: '.length)).choices[0]?.token_ids ?? []);
}

/** Streams on the good node that begin before `trouble` and end after it, each exactly what its node sent. */
async function streamThrough(trouble: () => Promise<unknown>): Promise<void> {
  const prompts = Array.from({ length: STREAMS }, (_, i) => [100 + i, 7]);
  const responses = await Promise.all(prompts.map((prompt) => open(good, prompt, TOKENS)));
  const answers = Promise.all(responses.map(tokensOf));
  await trouble();
  expect(hub.state().nodes.find(({ id }) => id === good.id)?.stage).toBe('ready');
  const asked = good.of('generate').map(({ generate }) => generate);
  for (const [i, answer] of (await answers).entries()) {
    const own = asked.find(({ prompt }) => prompt[0] === 100 + i)!;
    expect(answer).toEqual(scriptedTokens(own, 0));
  }
  expect(good.of('generate')).toHaveLength(STREAMS);
}

it('floods of several nodes: each is closed with 4429', async () => {
  await streamThrough(async () => {
    const nodes = await Promise.all(Array.from({ length: 5 }, () => ScriptedNode.join(hub.url)));
    for (const node of nodes) for (let i = 0; i < 3000; i++) node.socket.send('{"type":"pong","nonce":0}');
    for (const node of nodes) expect(await node.closed).toMatchObject({ code: CLOSE.flood });
  });
});

it('a flood by bytes: large messages count by their size', async () => {
  await hub.close();
  hub = await startTestHub({ migrationLimit: 0 }, { bytesPerSecond: 1 << 20 });
  good = await ScriptedNode.join(hub.url, { tokenMs: 5 });
  await streamThrough(async () => {
    const node = await ScriptedNode.join(hub.url);
    const message = 'x'.repeat(4000);
    const text = JSON.stringify({ type: 'stage', stage: 'ready', detail: message, loadedBytes: 0, totalBytes: 0 });
    for (let i = 0; i < 1000; i++) node.socket.send(text);
    expect(await node.closed).toMatchObject({ code: CLOSE.flood });
  });
});

it('garbage of many nodes, before and after their hello: each is closed with 4400', async () => {
  const garbage = ['hello?', '[]', '{"type":"tokens","epoch":1,"frames":[{}]}', '\u0000'.repeat(5000), '{"type":1}'];
  await streamThrough(async () => {
    const joined = garbage.map(async (text) => {
      const node = await ScriptedNode.join(hub.url);
      node.socket.send(text);
      return node.closed;
    });
    const strangers = garbage.map(async (text) => {
      const node = await ScriptedNode.open(hub.url);
      node.socket.send(text);
      return node.closed;
    });
    for (const { code } of await Promise.all([...joined, ...strangers])) expect(code).toBe(CLOSE.protocol);
  });
});

it('a node that reads nothing is closed with its requests, and only those', async () => {
  await streamThrough(async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    node.socket.pause();
    const prompt = Array<number>(2000).fill(4000);
    const lost: Promise<unknown>[] = [];
    // Loopback takes some megabytes before the hub's socket is full.
    while (hub.state().nodes.some(({ id }) => id === node.id) && lost.length < 2000) {
      lost.push(
        open(node, prompt, 8).then(
          (response) => response.resume().statusCode,
          () => null,
        ),
      );
      if (lost.length % 50 === 0) await until(() => hub.state().inflightRequests >= lost.length || !alive(node));
    }
    expect(alive(node)).toBe(false);
    node.socket.resume();
    await node.closed;
  });
});

const alive = (node: ScriptedNode) => hub.state().nodes.some(({ id }) => id === node.id);

it('clients that read nothing: the others get theirs, and when such a client leaves its request is cancelled', async () => {
  const other = await ScriptedNode.join(hub.url, { tokenMs: 1 });
  await streamThrough(async () => {
    const idle = await Promise.all(Array.from({ length: 4 }, (_, i) => open(other, [i], 2000)));
    await until(() => other.of('generate').length === 4);
    // Whether the hub has still to write or the node still to compute: nobody waits for these four.
    for (const response of idle) response.on('error', () => {}).destroy();
    await until(() => hub.state().nodes.find(({ id }) => id === other.id)?.activeRequests === 0);
    await other.next('cancel', 3);
  });
});
