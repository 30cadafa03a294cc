import Anthropic from '@anthropic-ai/sdk';
import { betaTool } from '@anthropic-ai/sdk/helpers/beta/json-schema';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { answerIds, promptText, weatherAsker } from '../support/weather-asker.ts';

const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź"}}\n</tool_call>';
const ask = {
  model: 'quire-pico',
  max_tokens: 500,
  messages: [{ role: 'user' as const, content: 'Weather in Łódź?' }],
};

let hub: Hub;
let client: Anthropic;
beforeEach(async () => {
  hub = await startTestHub({ apiKeys: ['key-1'] });
  client = new Anthropic({ baseURL: hub.url, apiKey: 'key-1', maxRetries: 0 });
});
afterEach(() => hub.close());

const reply = weatherAsker(CALL);

it.each([false, true])("a loop of tools by the official client's runner, streamed: %s", async (stream) => {
  const node = await ScriptedNode.join(hub.url, { reply });
  const asked: unknown[] = [];
  const tool = betaTool({
    name: 'get_weather',
    description: 'Weather of a city',
    inputSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    run(input) {
      asked.push(input);
      return 'sunny';
    },
  });
  const runner = client.beta.messages.toolRunner({ ...ask, tools: [tool], stream });
  const last = await runner.runUntilDone();
  expect(last).toMatchObject({ content: [{ type: 'text', text: 'It is sunny.' }], stop_reason: 'end_turn' });
  expect(asked).toEqual([{ city: 'Łódź' }]);
  // The second prompt has the call as the model wrote it, and what came of it.
  const prompts = node.of('generate').map(({ generate }) => promptText(generate));
  expect(prompts).toHaveLength(2);
  expect(prompts[1]).toContain(`<|im_start|>assistant\n${CALL}`);
});

it('several streams at once, each read by the official client and counted as its endpoint', async () => {
  await ScriptedNode.join(hub.url, { reply: () => answerIds('<think>\nHm.\n</think>\n\nYes.') });
  const streams = Array.from({ length: 8 }, () => client.messages.stream(ask).finalMessage());
  for (const message of await Promise.all(streams))
    expect(message.content).toMatchObject([
      { type: 'thinking', thinking: 'Hm.' },
      { type: 'text', text: 'Yes.' },
    ]);
  const metrics = await (await fetch(`${hub.url}/metrics`)).text();
  expect(metrics).toMatch(/endpoint="anthropic_messages",request_type="stream",status="success"\} 8/);
});

it('takes the key as x-api-key and as Bearer', async () => {
  await ScriptedNode.join(hub.url, { reply });
  const bearer = new Anthropic({ baseURL: hub.url, apiKey: null, authToken: 'key-1', maxRetries: 0 });
  for (const each of [client, bearer]) {
    const { data, request_id } = await each.messages.create(ask).withResponse();
    expect(data.type).toBe('message');
    expect(request_id).toMatch(/./);
  }
  expect(await client.messages.countTokens({ model: ask.model, messages: ask.messages })).toEqual({
    input_tokens: expect.any(Number),
  });
});

const WRONG: readonly (readonly [string, () => Promise<Response>, number, string])[] = [
  ['a wrong key', () => post({}, '/v1/messages', 'wrong'), 401, 'authentication_error'],
  ['an unknown model', () => post({ ...ask, model: 'other' }), 404, 'not_found_error'],
  ['no such path', () => post(ask, '/v1/messages/batches'), 404, 'not_found_error'],
  ['a field that nobody knows', () => post({ ...ask, n: 2 }), 400, 'invalid_request_error'],
  ['a body that is too large', () => post({ ...ask, system: 'x'.repeat(3000) }), 413, 'request_too_large'],
  [
    'another method',
    () => fetch(`${hub.url}/v1/messages`, { headers: { 'x-api-key': 'key-1' } }),
    405,
    'invalid_request_error',
  ],
  ['no node', () => post(ask), 503, 'overloaded_error'],
];
const post = (body: object, path = '/v1/messages', key = 'key-1') =>
  fetch(`${hub.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': key, 'anthropic-version': '2023-06-01' },
    body: JSON.stringify(body),
  });

it.each(WRONG)("%s is answered in Anthropic's form", async (_, send, status, type) => {
  await hub.close();
  hub = await startTestHub({ apiKeys: ['key-1'] }, { maxBodyBytes: 2048 });
  const response = await send();
  const id = response.headers.get('request-id');
  expect(id).toMatch(/./);
  expect(response.status).toBe(status);
  expect(await response.json()).toEqual({
    type: 'error',
    error: expect.objectContaining({ type, message: expect.any(String) }),
    request_id: id,
  });
});

it("other paths keep OpenAI's form", async () => {
  const response = await fetch(`${hub.url}/v1/models`);
  expect(response.headers.get('request-id')).toBeNull();
  expect(await response.json()).toMatchObject({ error: { code: 'invalid_api_key' } });
});
