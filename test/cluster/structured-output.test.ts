import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { afterEach, beforeEach, expect, it } from 'vitest';
import * as z from 'zod';
import { loadChatTokenizer } from '../../src/frontend/tokenizer.ts';
import type { Hub } from '../../src/hub/hub.ts';
import { readTokenizerFiles } from '../../src/node/tokenizer-files.ts';
import { folderFiles } from '../support/folder-files.ts';
import { ScriptedNode, type ScriptedNodeOptions } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';

const PICO = fileURLToPath(new URL('../../models/quire-pico', import.meta.url));
const tokenizer = loadChatTokenizer(await readTokenizerFiles(folderFiles(PICO)));
const EOS = 2;
const Visit = z.object({ city: z.enum(['Rome', 'Oslo']), days: z.number().int() });
const TEXT = '{"city": "Oslo", "days": 3}';
const ANSWER = [...tokenizer.encode(TEXT, false), EOS];
const messages = [{ role: 'user' as const, content: 'Where?' }];
const base = { model: 'quire-pico', messages } as const;

let hub: Hub;
let client: OpenAI;
beforeEach(async () => {
  hub = await startTestHub({}, { migrationWaitMs: 5000 });
  client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterEach(() => hub.close());

const join = (options: ScriptedNodeOptions = {}) =>
  ScriptedNode.join(hub.url, { tokenMs: 5, reply: () => ANSWER, ...options });

it('a node is sent the grammar of the schema, and the client gets what it asked for', async () => {
  const node = await join();
  const response_format = zodResponseFormat(Visit, 'visit');
  const answer = await client.chat.completions.parse({ ...base, response_format });
  expect(answer.choices[0]?.message.parsed).toEqual({ city: 'Oslo', days: 3 });
  expect(answer.choices[0]?.finish_reason).toBe('stop');
  const [sent] = node.of('generate');
  expect(sent?.generate.grammar).toMatch(/^root ::= /);
  expect(sent?.generate.grammar).toContain('Rome');
  await client.chat.completions.create(base);
  expect(node.of('generate')[1]?.generate).not.toHaveProperty('grammar');
});

it('G13: a node that dies in the middle: the next one gets the same grammar and what the first one gave', async () => {
  const nodes = [await join(), await join()];
  const response_format = zodResponseFormat(Visit, 'visit');
  let text = '';
  let killed = 0;
  const stream = await client.chat.completions.create({ ...base, response_format, stream: true });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    const serving = nodes.find((node) => node.of('generate').length > 0);
    if (killed > 0 || text.length < 5 || serving === undefined) continue;
    killed += 1;
    serving.socket.terminate();
  }
  expect(Visit.parse(JSON.parse(text))).toEqual({ city: 'Oslo', days: 3 });
  const asked = nodes.flatMap((node) => node.of('generate')).sort((a, b) => a.attempt - b.attempt);
  expect(asked.map(({ attempt }) => attempt)).toEqual([0, 1]);
  expect(asked[1]?.generate.grammar).toBe(asked[0]?.generate.grammar);
  const { generated = [] } = asked[1]?.generate.choices[0] ?? {};
  expect(generated.length).toBeGreaterThan(0);
  expect(generated).toEqual(ANSWER.slice(0, generated.length));
});

it.each([{ stream: false }, { stream: true }])(
  'a grammar that a node cannot match is a 400 with its reason: %j',
  async ({ stream }) => {
    const node = await join({ reply: null });
    const asked = client.chat.completions.create({ ...base, guided_grammar: 'root ::= other', stream } as never);
    const { attempt, generate } = await node.next('generate');
    const message = 'The grammar cannot be matched: Rule "other" is not defined.';
    node.send({
      type: 'failed',
      epoch: node.welcome?.epoch ?? 0,
      request: generate.request,
      attempt,
      code: 'invalid_request',
      message,
    });
    await expect(asked).rejects.toMatchObject({ status: 400, message: expect.stringContaining('Rule "other"') });
  },
);

it('a schema that cannot be held to is a 400 that no node hears of', async () => {
  const node = await join();
  const schema = { type: 'object', properties: { a: { type: 'array', contains: {} } } };
  const response_format = { type: 'json_schema', json_schema: { name: 'a', schema } } as const;
  const asked = client.chat.completions.create({ ...base, response_format });
  await expect(asked).rejects.toMatchObject({
    status: 400,
    param: 'response_format',
    message: expect.stringContaining("#/properties/a has 'contains'"),
  });
  expect(node.of('generate')).toEqual([]);
});

it('forced calls are grammars of the parameters, and come back as calls', async () => {
  const tools = [
    { type: 'function' as const, function: { name: 'visit', strict: true, parameters: z.toJSONSchema(Visit) } },
    { type: 'function' as const, function: { name: 'stop' } },
  ];
  const named = await join();
  const one = await client.chat.completions.create({
    ...base,
    tools,
    tool_choice: { type: 'function', function: { name: 'visit' } },
  });
  expect(one.choices[0]?.message.tool_calls).toMatchObject([{ function: { name: 'visit', arguments: TEXT } }]);
  expect(named.of('generate')[0]?.generate.grammar).toContain('Rome');
  await named.leave();
  const calls = `[{"name": "visit", "parameters": ${TEXT}}, {"name": "stop", "parameters": {}}]`;
  const node = await join({ reply: () => [...tokenizer.encode(calls, false), EOS] });
  const all = await client.chat.completions.create({ ...base, tools, tool_choice: 'required' });
  expect(all.choices[0]).toMatchObject({
    finish_reason: 'tool_calls',
    message: { tool_calls: [{ function: { name: 'visit' } }, { function: { name: 'stop', arguments: '{}' } }] },
  });
  expect(node.of('generate')[0]?.generate.grammar).toContain('parameters');
  const refused = (more: object) => client.chat.completions.create({ ...base, tools, ...more } as never);
  await expect(refused({})).rejects.toMatchObject({ status: 400, param: 'tools[0].function.strict' });
  await expect(refused({ tool_choice: 'required', response_format: { type: 'json_object' } })).rejects.toMatchObject({
    status: 400,
    param: 'response_format',
  });
  await expect(refused({ tool_choice: { type: 'function', function: { name: 'other' } } })).rejects.toMatchObject({
    status: 400,
    param: 'tool_choice',
  });
});
