import OpenAI from 'openai';
import { zodFunction } from 'openai/helpers/zod';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { z } from 'zod';
import type { Hub } from '../../src/hub/hub.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { promptText, weatherAsker } from '../support/weather-asker.ts';

const CALL =
  '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź", "days": [1, {"hour": null}]}}\n</tool_call>';

interface Delta {
  readonly reasoning_content?: string;
}

let hub: Hub;
let client: OpenAI;
beforeEach(async () => {
  hub = await startTestHub();
  client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterEach(() => hub.close());

const reply = weatherAsker(CALL);

it.each([false, true])('a loop of tools by the official client, streamed: %s', async (stream) => {
  const node = await ScriptedNode.join(hub.url, { reply });
  const asked: unknown[] = [];
  const tool = {
    type: 'function' as const,
    function: {
      name: 'get_weather',
      description: 'Weather of a city',
      parameters: { type: 'object', properties: { city: { type: 'string' } } },
      parse: JSON.parse,
      function: (args: object) => {
        asked.push(args);
        return 'sunny';
      },
    },
  };
  const request = {
    model: 'quire-pico',
    messages: [{ role: 'user' as const, content: 'Weather in Łódź?' }],
    tools: [tool],
  };
  const runner = stream
    ? client.chat.completions.runTools({ ...request, stream })
    : client.chat.completions.runTools(request);
  expect(await runner.finalContent()).toBe('It is sunny.');
  expect(asked).toEqual([{ city: 'Łódź', days: [1, { hour: null }] }]);
  // The second prompt has the call as the model wrote it, and what came of it.
  const prompts = node.of('generate').map(({ generate }) => promptText(generate));
  expect(prompts).toHaveLength(2);
  expect(prompts[1]).toContain(`<|im_start|>assistant\n${CALL}`);
});

it("takes tools as the official client's helpers make them, strict ones", async () => {
  await ScriptedNode.join(hub.url, { reply });
  const asked: unknown[] = [];
  const Weather = z.object({ city: z.string(), days: z.array(z.unknown()) });
  const runner = client.chat.completions.runTools({
    model: 'quire-pico',
    messages: [{ role: 'user', content: 'Weather in Łódź?' }],
    tools: [
      zodFunction({
        name: 'get_weather',
        parameters: Weather,
        function: (args) => {
          asked.push(args);
          return 'sunny';
        },
      }),
    ],
  });
  expect(await runner.finalContent()).toBe('It is sunny.');
  expect(asked).toEqual([{ city: 'Łódź', days: [1, { hour: null }] }]);
});

it('parts reasoning and calls of several streams at once, two choices each', async () => {
  await ScriptedNode.join(hub.url, { reply });
  const tools = [{ type: 'function' as const, function: { name: 'get_weather' } }];
  const ask = async (content: string) => {
    const messages = [{ role: 'user' as const, content }];
    const stream = client.chat.completions.stream({ model: 'quire-pico', messages, tools, n: 2 });
    const reasoning = ['', ''];
    // The client puts together what OpenAI knows; this field is not OpenAI's.
    stream.on('chunk', ({ choices }) => {
      for (const { index, delta } of choices) reasoning[index] += (delta as Delta).reasoning_content ?? '';
    });
    return { ...(await stream.finalChatCompletion()), reasoning };
  };
  for (const { choices, reasoning } of await Promise.all(['a', 'b', 'c'].map(ask))) {
    expect(reasoning).toEqual(['I must ask.', 'I must ask.']);
    expect(choices.map((choice) => choice.finish_reason)).toEqual(['tool_calls', 'tool_calls']);
    for (const { message } of choices)
      expect(JSON.parse(message.tool_calls?.[0]?.function.arguments ?? '')).toMatchObject({ city: 'Łódź' });
  }
});
