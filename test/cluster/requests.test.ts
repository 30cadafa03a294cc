import OpenAI, { APIError } from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { Gate } from '../support/gate.ts';
import { ScriptedNode, scriptedTokens } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
let client: OpenAI;
beforeEach(async () => {
  hub = await startTestHub();
  client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterEach(() => hub.close());

/** Token ids in, token ids out: what the node said is what the client sees, without a tokenizer between. */
function complete(prompt: number[], more: object = {}) {
  const body = { model: 'quire-pico', prompt, max_tokens: 12, return_token_ids: true, ...more };
  return client.completions.create(body as OpenAI.CompletionCreateParamsNonStreaming);
}

describe('the way of a request', () => {
  it('brings each choice its tokens, as the node computed them', async () => {
    const node = await ScriptedNode.join(hub.url);
    const answer = await complete([10, 11, 12], { n: 3 });
    const { generate, attempt } = await node.next('generate');
    expect(attempt).toBe(0);
    expect(generate).toMatchObject({ prompt: [10, 11, 12], sampling: { maxTokens: 12 } });
    expect(answer.choices.map((choice) => (choice as unknown as { token_ids: number[] }).token_ids)).toEqual(
      [0, 1, 2].map((choice) => scriptedTokens(generate, choice)),
    );
    expect(answer.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 36 });
    expect(hub.state()).toMatchObject({ inflightRequests: 0, nodes: [{ activeRequests: 0, activeSequences: 0 }] });
  });

  it('streams a chat: the deltas together are the answer without streaming', async () => {
    await ScriptedNode.join(hub.url);
    const body = { model: 'quire-pico', messages: [{ role: 'user' as const, content: 'hello' }], max_tokens: 40 };
    const whole = await client.chat.completions.create(body);
    let text = '';
    let chunks = 0;
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
      chunks += 1;
    }
    expect(text).toBe(whole.choices[0]?.message.content);
    expect(text.length).toBeGreaterThan(10);
    expect(chunks).toBeGreaterThan(10);
  });

  it('64 requests at once on three nodes: none gets a token of another, and each node has its share', async () => {
    const gate = new Gate();
    const nodes = await Promise.all([1, 2, 3].map(() => ScriptedNode.join(hub.url, { gate })));
    const prompts = Array.from({ length: 64 }, (_, i) => [i, 2 * i, 3 * i]);
    const running = prompts.map((prompt) => complete(prompt));
    await Promise.all(nodes.map((node) => node.next('generate', 20)));
    gate.open();
    const answers = await Promise.all(running);
    const asked = nodes.flatMap((node) => node.of('generate')).map(({ generate }) => generate);
    for (const [i, answer] of answers.entries()) {
      const request = asked.find(({ prompt }) => prompt[1] === 2 * i && prompt[0] === i)!;
      expect((answer.choices[0] as unknown as { token_ids: number[] }).token_ids).toEqual(scriptedTokens(request, 0));
    }
  });

  it('503 with what to do while no node is ready; a node that only warms does not count', async () => {
    await ScriptedNode.greet(hub.url);
    const error = await complete([1]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(APIError);
    expect(error).toMatchObject({ status: 503, code: 'no_node_ready', message: expect.stringContaining('WebGPU') });
    expect((error as APIError).headers?.get('retry-after')).toBe('5');
  });

  it('a hardware adapter gets everything while it is there, a software adapter only then not', async () => {
    const software = await ScriptedNode.join(hub.url, { software: true });
    await complete([1]);
    expect(software.of('generate')).toHaveLength(1);
    const hardware = await ScriptedNode.join(hub.url);
    await Promise.all([complete([2]), complete([3]), complete([4])]);
    expect(software.of('generate')).toHaveLength(1);
    expect(hardware.of('generate')).toHaveLength(3);
    await hardware.leave();
    await until(() => hub.state().nodes.length === 1);
    await complete([5]);
    expect(software.of('generate')).toHaveLength(2);
  });

  it('a draining node finishes its request and gets no other', async () => {
    const node = await ScriptedNode.join(hub.url, { tokenMs: 5 });
    const running = complete([1]);
    await node.next('generate');
    node.send({ type: 'drain', reason: 'the page closes' });
    await until(() => hub.state().nodes[0]?.stage === 'draining');
    await expect(complete([2])).rejects.toMatchObject({ status: 503 });
    expect((await running).usage?.completion_tokens).toBe(12);
    expect(node.of('generate')).toHaveLength(1);
  });
});

describe('cancelling', () => {
  it('a client that goes away cancels on the node at once, with the next message that the hub sends it', async () => {
    const node = await ScriptedNode.join(hub.url, { tokenMs: 5 });
    const controller = new AbortController();
    const body = { model: 'quire-pico', prompt: [1, 2], max_tokens: 2000, stream: true as const };
    const stream = await client.completions.create(body, { signal: controller.signal });
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 3) break;
    }
    controller.abort();
    const cancel = await node.next('cancel');
    const { generate } = await node.next('generate');
    expect(cancel).toEqual({ type: 'cancel', request: generate.request, attempt: 0 });
    const after = node.received.slice(node.received.findIndex(({ type }) => type === 'generate') + 1);
    expect(after.find(({ type }) => type !== 'ping')).toEqual(cancel);
    await until(() => hub.state().inflightRequests === 0);
    expect(hub.state().nodes[0]).toMatchObject({ stage: 'ready', activeSequences: 0 });
  });

  it('a client that goes away before any token came cancels too', async () => {
    const node = await ScriptedNode.join(hub.url, { reply: null });
    const controller = new AbortController();
    const body = { model: 'quire-pico', prompt: [1], max_tokens: 5 };
    const asked = client.completions.create(body, { signal: controller.signal }).catch(() => {});
    await node.next('generate');
    controller.abort();
    expect(await node.next('cancel')).toMatchObject({ attempt: 0 });
    await asked;
  });

  it('a request that ended by itself is not cancelled', async () => {
    const node = await ScriptedNode.join(hub.url);
    await complete([1]);
    await complete([2]);
    expect(node.of('cancel')).toEqual([]);
  });
});

describe('bounds', () => {
  it('more requests than the limit are refused with 503, and are taken again when one has ended', async () => {
    const small = await startTestHub({}, { maxInflight: 2 });
    try {
      client = new OpenAI({ baseURL: `${small.url}/v1`, apiKey: 'none', maxRetries: 0 });
      const gate = new Gate();
      const node = await ScriptedNode.join(small.url, { gate });
      const running = [complete([1]), complete([2])];
      await node.next('generate', 1);
      await expect(complete([3])).rejects.toMatchObject({ status: 503, code: 'overloaded' });
      gate.open();
      await Promise.all(running);
      expect((await complete([4])).usage?.completion_tokens).toBe(12);
    } finally {
      await small.close();
    }
  });

  it('a request that no ready node can hold is refused with both numbers', async () => {
    const node = await ScriptedNode.join(hub.url, { card: { maxModelLen: 64 } });
    await expect(complete(Array<number>(60).fill(1))).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(/64.*72|72.*64|60.*64|64.*60/),
    });
    expect(node.of('generate')).toEqual([]);
  });

  it('a node that sends nothing for too long fails its request and is told to stop', async () => {
    const impatient = await startTestHub({}, { requestIdleMs: 100 });
    try {
      client = new OpenAI({ baseURL: `${impatient.url}/v1`, apiKey: 'none', maxRetries: 0 });
      const node = await ScriptedNode.join(impatient.url, { reply: null });
      await expect(complete([1])).rejects.toMatchObject({ status: 503, code: 'node_stalled' });
      expect(await node.next('cancel')).toMatchObject({ attempt: 0 });
    } finally {
      await impatient.close();
    }
  });
});
