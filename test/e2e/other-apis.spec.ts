import { readFileSync } from 'node:fs';
import Anthropic from '@anthropic-ai/sdk';
import type OpenAI from 'openai';
import { clientOf } from './client.ts';
import { BROWSER, expect, test } from './fixture.ts';
import { sharedNode } from './shared-node.ts';

test.use(BROWSER);

interface Skill {
  readonly messages: { role: 'user'; content: string }[];
  readonly tools?: { function: { name: string; description: string; parameters: { type: 'object' } } }[];
  readonly answer: string;
}
const skills = JSON.parse(readFileSync(new URL('../fixtures/quire-pico/skills.json', import.meta.url), 'utf8'));
const sum: Skill = skills.addition_with_thought[0];
const call: Skill = skills.tool_calls[0];
const tool = call.tools![0]!.function;
/** What the reference implementation called, as it wrote it. */
const called = JSON.parse(call.answer.replaceAll(/<\/?tool_call>/g, ''));
const node = sharedNode();

test("OpenAI's Responses API over a page: reasoning, a call, and going on from what was answered", async () => {
  const { responses } = clientOf(node.url);
  const base = { model: 'quire-pico', temperature: 0 };
  const thought = await responses
    .stream({ ...base, input: sum.messages, reasoning: { effort: 'medium' } })
    .finalResponse();
  expect(thought.output.map(({ type }) => type)).toEqual(['reasoning', 'message']);
  expect(thought.output_text).toBe(sum.answer);

  const tools: OpenAI.Responses.Tool[] = [{ type: 'function', strict: false, ...tool }];
  const first = await responses.create({ ...base, input: call.messages, tools });
  expect(first.output).toMatchObject([{ type: 'function_call', name: called.name }]);
  const [item] = first.output as [OpenAI.Responses.ResponseFunctionToolCall];
  expect(JSON.parse(item.arguments)).toEqual(called.arguments);
  const result = { type: 'function_call_output' as const, call_id: item.call_id, output: '{"done": true}' };
  const next = await responses.create({ ...base, tools, previous_response_id: first.id, input: [result] });
  expect(next.status).toBe('completed');
  expect(next.usage!.input_tokens).toBeGreaterThan(first.usage!.input_tokens + first.usage!.output_tokens);
  // The page still has the blocks of the first prompt and its answer.
  expect(next.usage!.input_tokens_details.cached_tokens).toBeGreaterThan(first.usage!.input_tokens / 2);
});

test("Anthropic's messages over a page: thinking, a call, an answer held to a schema", async () => {
  const { messages } = new Anthropic({ baseURL: node.url, apiKey: 'none', maxRetries: 0 });
  const base = { model: 'quire-pico', max_tokens: 140, temperature: 0 };
  const thought = await messages
    .stream({ ...base, messages: sum.messages, thinking: { type: 'adaptive' } })
    .finalMessage();
  expect(thought.content.map(({ type }) => type)).toEqual(['thinking', 'text']);
  expect(thought.content[1]).toMatchObject({ text: sum.answer });

  const { name, description, parameters } = tool;
  const made = await messages.create({
    ...base,
    messages: call.messages,
    tools: [{ name, description, input_schema: parameters }],
  });
  expect(made).toMatchObject({ stop_reason: 'tool_use', content: [{ type: 'tool_use', name: called.name }] });
  expect(made.content[0]).toMatchObject({ input: called.arguments });

  const schema = {
    type: 'object',
    properties: { planet: { enum: ['Mars', 'Venus'] } },
    required: ['planet'],
    additionalProperties: false,
  };
  const held = await messages.create({
    ...base,
    ...{ temperature: 1 },
    messages: [{ role: 'user', content: 'Tell me a story.' }],
    output_config: { format: { type: 'json_schema', schema } },
  });
  const [block] = held.content;
  const planet = block?.type === 'text' ? JSON.parse(block.text) : null;
  expect([{ planet: 'Mars' }, { planet: 'Venus' }]).toContainEqual(planet);
});
