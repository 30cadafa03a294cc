import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { CLOSE } from '../../src/protocol/close-codes.ts';
import { ScriptedNode, scriptedTokens } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
let client: OpenAI;
beforeEach(async () => {
  // What one node does to its requests; how they go on elsewhere is in migration.test.ts.
  const limits = { maxMessageBytes: 1 << 20, messagesPerSecond: 500, maxBufferedBytes: 64 << 10 };
  hub = await startTestHub({ migrationLimit: 0 }, limits);
  client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterEach(() => hub.close());

const PROMPT = [3, 1, 4];

async function ask(more: object = {}): Promise<number[]> {
  const body = { model: 'quire-pico', prompt: PROMPT, max_tokens: 4, return_token_ids: true, ...more };
  const answer = await client.completions.create(body as OpenAI.CompletionCreateParamsNonStreaming);
  return (answer.choices[0] as unknown as { token_ids: number[] }).token_ids;
}

/** The hub still answers, through another node. */
async function stillServes(): Promise<void> {
  const healthy = await ScriptedNode.join(hub.url);
  const tokens = await ask();
  expect(tokens).toEqual(scriptedTokens((await healthy.next('generate')).generate, 0));
}

describe('a node that does not keep to the protocol is closed, and the hub goes on', () => {
  it.each([
    ['no JSON', 'hello?'],
    ['JSON that is no object', '[1,2]'],
    ['a message without type', '{}'],
    ['an unknown message', '{"type":"format_disk"}'],
    ['a known message with a wrong field', '{"type":"pong","nonce":"one"}'],
    ['a huge number', '{"type":"pong","nonce":1e999}'],
    ['deep nesting', `{"type":"pong","nonce":${'['.repeat(20_000)}${']'.repeat(20_000)}}`],
    ['a prototype', '{"type":"load","load":{"__proto__":{"rank":1}}}'],
  ])('M3: %s', async (_, text) => {
    const node = await ScriptedNode.join(hub.url);
    node.socket.send(text);
    expect(await node.next('error')).toMatchObject({ code: 'protocol' });
    expect(await node.closed).toMatchObject({ code: CLOSE.protocol });
    await stillServes();
  });

  it('M2: a binary message', async () => {
    const node = await ScriptedNode.join(hub.url);
    node.socket.send(new Uint8Array([1, 2, 3]));
    expect(await node.closed).toMatchObject({ code: CLOSE.protocol, reason: expect.stringContaining('binary') });
  });

  it('M4: a message above the limit is cut off by the socket itself', async () => {
    const node = await ScriptedNode.join(hub.url);
    node.socket.send(`{"type":"error","code":"engine","message":"${'x'.repeat(2 << 20)}"}`);
    // RFC 6455, 7.4.1: message too big.
    expect(await node.closed).toMatchObject({ code: 1009 });
    await stillServes();
  });

  it('M4: a flood', async () => {
    const node = await ScriptedNode.join(hub.url);
    for (let i = 0; i < 2000; i++) node.socket.send('{"type":"pong","nonce":0}');
    expect(await node.closed).toMatchObject({ code: CLOSE.flood });
    await stillServes();
  });

  it('M4: a node that stops reading is closed, while another is served', async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    node.socket.pause();
    // Loopback takes some megabytes before the socket of the hub is full.
    const prompt = Array<number[]>(100).fill(Array<number>(2000).fill(4000));
    const asked: Promise<unknown>[] = [];
    while (hub.state().nodes.length > 0 && asked.length < 10) {
      asked.push(ask({ prompt }).catch((error: unknown) => error));
      await until(() => hub.state().inflightRequests >= 100 * asked.length || hub.state().nodes.length === 0);
    }
    expect(hub.state().nodes).toEqual([]);
    expect(await asked[0]).toMatchObject({ status: 503, code: 'node_lost' });
    for (const outcome of await Promise.all(asked)) expect(outcome).toMatchObject({ status: 503 });
    node.socket.resume();
    await node.closed;
    await stillServes();
  });
});

describe('tokens', () => {
  it('T2, J7: duplicates, overlaps, old attempts, old epochs and unknown requests change nothing of what a client sees', async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const answer = ask();
    const { request } = (await node.next('generate')).generate;
    const frame = { request, attempt: 0, choice: 0 };
    node.tokens({ ...frame, offset: 0, tokens: [11, 12] });
    node.tokens({ ...frame, offset: 0, tokens: [11, 12] });
    node.tokens({ ...frame, attempt: 1, offset: 2, tokens: [99] });
    node.tokens({ ...frame, attempt: 7, offset: 0, tokens: [99], finish: 'stop' });
    node.tokens({ ...frame, offset: 2, tokens: [98] }, 0);
    node.tokens({ ...frame, request: 'somebody else', offset: 5, tokens: [97] });
    node.tokens({ ...frame, offset: 1, tokens: [12, 13] });
    node.tokens({ ...frame, offset: 3, tokens: [14], finish: 'length' });
    node.tokens({ ...frame, offset: 4, tokens: [15] });
    expect(await answer).toEqual([11, 12, 13, 14]);
    expect(hub.state().nodes[0]?.stage).toBe('ready');
  });

  it.each([
    ['T2: a hole', { offset: 1, tokens: [1] }],
    ['T6: too many tokens', { offset: 0, tokens: [1, 2, 3, 4, 5] }],
    ['T6: a token outside the vocabulary', { offset: 0, tokens: [4096] }],
    ['a choice that was not asked for', { choice: 1, offset: 0, tokens: [1] }],
    ['T4: an end that nobody asked for', { offset: 0, tokens: [], finish: 'cancelled' as const }],
  ])('%s closes the node and fails its requests', async (_, bad) => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const failed = expect(ask()).rejects.toMatchObject({ status: 503, code: 'node_lost' });
    const { request } = (await node.next('generate')).generate;
    node.tokens({ request, attempt: 0, choice: 0, ...bad });
    expect(await node.closed).toMatchObject({ code: CLOSE.protocol });
    await failed;
    await stillServes();
  });

  it('a node cannot speak for another', async () => {
    const owner = await ScriptedNode.join(hub.url, { reply: null });
    const answer = ask();
    const { request } = (await owner.next('generate')).generate;
    const other = await ScriptedNode.join(hub.url, { reply: null });
    other.tokens({ request, attempt: 0, choice: 0, offset: 0, tokens: [66], finish: 'stop' });
    other.send({ type: 'failed', epoch: 1, request, attempt: 0, code: 'engine', message: 'ha' });
    other.send({ type: 'load', load: { ...LOAD } });
    await until(() => hub.state().nodes.some(({ loads }) => loads.length > 0));
    owner.tokens({ request, attempt: 0, choice: 0, offset: 0, tokens: [7], finish: 'stop', stopId: 7 });
    expect(await answer).toEqual([7]);
  });
});

describe('failures', () => {
  it.each([
    ['invalid_request' as const, 400],
    ['overloaded' as const, 503],
    ['engine' as const, 500],
  ])('G3: failed with %s is answered with %i and the node’s own words', async (code, status) => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const failed = expect(ask()).rejects.toMatchObject({
      status,
      message: expect.stringContaining('because of the moon'),
    });
    const { request } = (await node.next('generate')).generate;
    node.send({ type: 'failed', epoch: 1, request, attempt: 3, code: 'engine', message: 'of an attempt that is not' });
    node.send({ type: 'failed', epoch: 1, request, attempt: 0, code, message: 'because of the moon' });
    await failed;
    expect(hub.state()).toMatchObject({ inflightRequests: 0, nodes: [{ stage: 'ready', activeSequences: 0 }] });
  });

  it('a node lost in the middle of a stream ends the stream with an error, after the tokens that came', async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const body = { model: 'quire-pico', prompt: PROMPT, max_tokens: 9, stream: true };
    const response = fetch(`${hub.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, return_token_ids: true }),
    });
    const { request } = (await node.next('generate')).generate;
    node.tokens({ request, attempt: 0, choice: 0, offset: 0, tokens: [300, 301] });
    const answer = await response;
    expect(answer.status).toBe(200);
    node.socket.terminate();
    const events = (await answer.text())
      .split('\n\n')
      .filter(Boolean)
      .map((event) => JSON.parse(event.slice('data: '.length)));
    expect(events.flatMap(({ choices }) => choices?.[0]?.token_ids ?? [])).toEqual([300, 301]);
    expect(events.at(-1)).toMatchObject({ error: { code: 'node_lost', message: expect.stringContaining('gone') } });
    expect(hub.state()).toMatchObject({ inflightRequests: 0, nodes: [] });
  });
});

const LOAD = {
  rank: 0,
  running: 1,
  waiting: 0,
  usedBlocks: 1,
  totalBlocks: 2,
  tokensPerSecond: 3,
  counters: {
    steps: 1,
    mixedSteps: 0,
    submits: 1,
    overlappedSubmits: 0,
    rows: 1,
    decodeRows: 1,
    prefillRows: 0,
    sampledTokens: 1,
    cachedTokens: 0,
    draftTokens: 0,
    acceptedTokens: 0,
    preemptions: 0,
  },
};
