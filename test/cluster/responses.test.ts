import OpenAI from 'openai';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { answerIds, promptText, weatherAsker } from '../support/weather-asker.ts';

const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź"}}\n</tool_call>';
const WEATHER = {
  type: 'function' as const,
  name: 'get_weather',
  strict: false,
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
};

let hub: Hub;
let client: OpenAI;
beforeEach(async () => {
  hub = await startTestHub({ apiKeys: ['key-1', 'key-2'] });
  client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'key-1', maxRetries: 0 });
});
afterEach(() => hub.close());

const reply = weatherAsker(CALL);

it.each([false, true])('a loop of tools by the official client over kept responses, streamed: %s', async (stream) => {
  const node = await ScriptedNode.join(hub.url, { reply });
  const ask = (request: {
    model: string;
    input: OpenAI.Responses.ResponseInput | string;
    previous_response_id?: string;
  }) =>
    stream
      ? client.responses.stream({ ...request, tools: [WEATHER] }).finalResponse()
      : client.responses.create({ ...request, tools: [WEATHER] });
  const first = await ask({ model: 'quire-pico', input: 'Weather in Łódź?' });
  expect(first.output.map((item) => item.type)).toEqual(['reasoning', 'function_call']);
  const calls = first.output.flatMap((item) => (item.type === 'function_call' ? [item] : []));
  expect(calls.map((call) => JSON.parse(call.arguments))).toEqual([{ city: 'Łódź' }]);
  const input = calls.map(({ call_id }) => ({ type: 'function_call_output' as const, call_id, output: 'sunny' }));
  const next = await ask({ model: 'quire-pico', previous_response_id: first.id, input });
  expect(next.output_text).toBe('It is sunny.');
  expect((await client.responses.retrieve(next.id)).output_text).toBe('It is sunny.');
  const [, second] = node.of('generate').map(({ generate }) => promptText(generate));
  expect(second).toContain('Weather in Łódź?');
  expect(second).toContain(`<|im_start|>assistant\n${CALL}`);
});

it('another key has no part in them', async () => {
  await ScriptedNode.join(hub.url, { reply });
  const { id } = await client.responses.create({ model: 'quire-pico', input: 'Hi' });
  const other = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'key-2', maxRetries: 0 });
  await expect(other.responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
  await expect(other.responses.delete(id)).rejects.toMatchObject({ status: 404 });
  const stolen = { model: 'quire-pico', input: 'Go on', previous_response_id: id };
  await expect(other.responses.create(stolen)).rejects.toMatchObject({ code: 'previous_response_not_found' });
  expect((await client.responses.retrieve(id)).id).toBe(id);
});

it('a stream in work can be cancelled by its id, is counted as its endpoint, and several run at once', async () => {
  let calls = 0;
  const node = await ScriptedNode.join(hub.url, {
    tokenMs: 2,
    reply: () => answerIds(calls++ === 0 ? 'never '.repeat(400) : 'Done.'),
  });
  const long = client.responses.stream({ model: 'quire-pico', input: 'Hi' });
  const asked: string[] = [];
  for await (const event of long) {
    if (event.type !== 'response.created') continue;
    const headers = { authorization: 'Bearer key-1' };
    asked.push(event.response.id);
    expect((await fetch(`${hub.url}/v1/requests/${asked[0]}`, { method: 'DELETE', headers })).status).toBe(200);
  }
  expect(await long.finalResponse()).toMatchObject({
    id: asked[0],
    status: 'failed',
    error: { message: expect.stringContaining('cancelled') },
  });
  const short = Array.from({ length: 8 }, () =>
    client.responses.stream({ model: 'quire-pico', input: 'Hi' }).finalResponse(),
  );
  expect((await Promise.all(short)).map((response) => response.output_text)).toEqual(Array(8).fill('Done.'));
  expect(node.of('generate')).toHaveLength(9);
  const metrics = await (await fetch(`${hub.url}/metrics`)).text();
  expect(metrics).toMatch(/endpoint="responses",request_type="stream",status="success"\} 8/);
});
