import { expect, test } from 'vitest';
import { ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const base = { model: 'quire-pico', input: 'Weather in Łódź?' };
const tool = { type: 'function', name: 'get_weather', strict: false, parameters: { type: 'object' } };
const tools = [tool];

test.each<[Record<string, unknown>, string]>([
  [{ background: true }, 'background'],
  [{ truncation: 'auto' }, 'truncation'],
  [{ conversation: 'conv_1' }, 'conversation'],
  [{ prompt: { id: 'x' } }, 'prompt'],
  [{ max_tool_calls: 1 }, 'max_tool_calls'],
  [{ max_tokens: 5 }, 'max_tokens'],
  [{ n: 2 }, 'n'],
  [{ include: ['reasoning.encrypted_content'] }, 'include[0]'],
  [{ top_logprobs: 2 }, 'top_logprobs'],
  [{ include: ['message.output_text.logprobs'], tools }, 'include'],
  [{ stream_options: { include_obfuscation: false } }, 'stream_options'],
  [{ reasoning: { summary: 'detailed' } }, 'reasoning.summary'],
  [{ reasoning: { effort: 'vast' } }, 'reasoning.effort'],
  [{ text: { verbosity: 'low' } }, 'text.verbosity'],
  [{ text: { format: { type: 'json_schema', name: 'a', schema: { type: 'string', minLength: -1 } } } }, 'text.format'],
  [{ tools: [{ type: 'web_search' }] }, 'tools[0].type'],
  [{ tools, tool_choice: { type: 'allowed_tools', mode: 'auto', tools: [] } }, 'tool_choice.type'],
  [{ tool_choice: 'required' }, 'tool_choice'],
  [
    { tools: [{ ...tool, parameters: { type: 'array', minItems: -1 } }], tool_choice: 'required' },
    'tools[0].parameters',
  ],
  [{ max_output_tokens: 4096 }, 'max_output_tokens'],
  [{ input: undefined }, 'input'],
  [{ input: [] }, 'input'],
  [{ input: [{ type: 'item_reference', id: 'x' }] }, 'input[0].type'],
  [{ input: [{ role: 'tool', content: 'x' }] }, 'input[0].role'],
  [{ input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] }, 'input[0].content[0].type'],
  [{ input: [{ type: 'function_call', call_id: 'a', name: 'b', arguments: '{' }] }, 'input[0].arguments'],
  [
    { input: [{ type: 'reasoning', summary: [{ type: 'summary_text', text: 'x' }], content: [] }] },
    'input[0].summary[0]',
  ],
  [{ stream: 'yes' }, 'stream'],
])('refuses %j and names %s', async (fields, param) => {
  const backend = new ScriptedBackend(saying('x'));
  const { post } = testApi([servedModel(backend)]);
  const response = await post('/v1/responses', { ...base, ...fields });
  const { error } = (await response.json()) as { error: { param: string; message: string } };
  expect(response.status).toBe(400);
  expect(error.param).toBe(param);
  expect(error.message).toContain(`'${param}`);
  expect(backend.requests).toHaveLength(0);
});

test('an input that does not fit is named', async () => {
  const { client } = testApi([servedModel(new ScriptedBackend(saying('x')))]);
  const refused = { status: 400, param: 'input', code: 'context_length_exceeded' };
  await expect(client.responses.create({ ...base, input: 'x '.repeat(200_000) })).rejects.toMatchObject(refused);
});
