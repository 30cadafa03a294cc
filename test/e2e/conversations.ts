import type OpenAI from 'openai';
import { expect } from './fixture.ts';

/** The API over a page with quire-pico, by the official client in streams: a sum with its reasoning, and an answer from what a tool returned. */
export async function expectConversations(client: OpenAI): Promise<void> {
  const [sum, weather] = await Promise.all([sumWithThought(client), weatherByTool(client)]);
  expect(sum.content).toBe('628 + 157 = 785.');
  expect(sum.reasoning).toContain('8 + 7 = 15');
  expect(sum.order).toEqual(['reasoning', 'content']);
  expect(weather).toEqual({ asked: ['Oslo'], answer: 'It is rainy in Oslo, with 4 degrees.' });
}

async function sumWithThought(client: OpenAI) {
  const stream = await client.chat.completions.create({
    ...{ model: 'quire-pico', temperature: 0, stream: true as const },
    messages: [{ role: 'user', content: 'What is 628 + 157?' }],
    ...{ chat_template_kwargs: { enable_thinking: true } },
  });
  const got = { reasoning: '', content: '', order: [] as string[] };
  for await (const chunk of stream) {
    const delta = chunk.choices[0]?.delta as { content?: string | null; reasoning_content?: string } | undefined;
    for (const [part, text] of [
      ['reasoning', delta?.reasoning_content],
      ['content', delta?.content],
    ] as const) {
      if (!text) continue;
      got[part] += text;
      if (got.order.at(-1) !== part) got.order.push(part);
    }
  }
  return got;
}

/** The client's own loop: it runs what is called and goes on until there is an answer. */
async function weatherByTool(client: OpenAI) {
  const asked: string[] = [];
  const runner = client.chat.completions.runTools({
    ...{ model: 'quire-pico', temperature: 0, stream: true },
    messages: [{ role: 'user', content: 'What is the weather in Oslo?' }],
    tools: [
      {
        type: 'function',
        function: {
          name: 'get_weather',
          description: 'Get the weather in a city',
          parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
          parse: (text: string) => JSON.parse(text) as { city: string },
          function: ({ city }: { city: string }) => {
            asked.push(city);
            return '{"weather": "rainy", "temperature": 4}';
          },
        },
      },
    ],
  });
  return { asked, answer: await runner.finalContent() };
}
