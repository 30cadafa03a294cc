import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { afterEach, beforeEach, expect, it } from 'vitest';
import * as z from 'zod';
import { loadChatTokenizer } from '../../src/frontend/tokenizer.ts';
import type { Hub } from '../../src/hub/hub.ts';
import { readTokenizerFiles } from '../../src/node/tokenizer-files.ts';
import { folderFiles } from '../support/folder-files.ts';
import { Gate } from '../support/gate.ts';
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

const join = (options: ScriptedNodeOptions = {}) => ScriptedNode.join(hub.url, { reply: () => ANSWER, ...options });

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
  const options = { hangAfter: ANSWER.length - 3, gate: new Gate() };
  const nodes = [await join(options), await join(options)];
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
    options.gate.open();
  }
  expect(Visit.parse(JSON.parse(text))).toEqual({ city: 'Oslo', days: 3 });
  const asked = nodes.flatMap((node) => node.of('generate')).sort((a, b) => a.attempt - b.attempt);
  expect(asked.map(({ attempt }) => attempt)).toEqual([0, 1]);
  expect(asked[1]?.generate.grammar).toBe(asked[0]?.generate.grammar);
  const { generated = [] } = asked[1]?.generate.choices[0] ?? {};
  expect(generated.length).toBeGreaterThan(0);
  expect(generated).toEqual(ANSWER.slice(0, generated.length));
});

const THINKING = { chat_template_kwargs: { enable_thinking: true } };
const MARKS = tokenizer.encode('<think></think>', false) as [number, number];
const thoughtful = (begun: boolean) => [
  ...tokenizer.encode(`${begun ? '' : '<think>'}\nNot {"city": 5}, but\n</think>\n\n`, false),
  ...ANSWER,
];

it.each([true, false])(
  'reasoning comes before the grammar, and is told apart from what it holds; begun by the prompt: %s',
  async (begun) => {
    const node = await join({ reply: () => thoughtful(begun) });
    const request = { ...base, response_format: zodResponseFormat(Visit, 'visit'), ...(begun ? THINKING : {}) };
    const answer = await client.chat.completions.parse(request);
    const { message, finish_reason } = answer.choices[0]!;
    expect(message.parsed).toEqual({ city: 'Oslo', days: 3 });
    expect(message).toMatchObject({ reasoning_content: 'Not {"city": 5}, but' });
    expect(finish_reason).toBe('stop');
    const [start, end] = MARKS;
    const thought = { begun, starts: [start], ends: [end] };
    expect(node.of('generate')[0]?.generate).toMatchObject({ thought, grammar: expect.stringContaining('Rome') });
    // Not where nothing is held, nor where the request turns it off.
    await client.chat.completions.create({ ...base, ...THINKING } as typeof base);
    await client.chat.completions.create({
      ...request,
      chat_template_kwargs: { enable_thinking: false },
    } as typeof request);
    for (const { generate } of node.of('generate').slice(1)) expect(generate).not.toHaveProperty('thought');
  },
);

it.each(['required', { type: 'function', function: { name: 'visit' } }] as const)(
  'reasoning comes before calls that are forced: %j',
  async (tool_choice) => {
    const said = tool_choice === 'required' ? `[{"name": "visit", "parameters": ${TEXT}}]` : TEXT;
    const node = await join({ reply: () => [...tokenizer.encode(`Hm.</think>\n\n${said}`, false), EOS] });
    const tools = [{ type: 'function' as const, function: { name: 'visit', parameters: z.toJSONSchema(Visit) } }];
    const request = { ...base, ...THINKING, tools, tool_choice };
    const answer = await client.chat.completions.create(request as typeof base & { tools: typeof tools });
    expect(answer.choices[0]?.message).toMatchObject({
      reasoning_content: 'Hm.',
      tool_calls: [{ function: { name: 'visit', arguments: TEXT } }],
    });
    expect(node.of('generate')[0]?.generate.thought).toMatchObject({ begun: true });
  },
);

it('a node that dies while it reasons: the next one gets the same reasoning to go on from, and the client one answer', async () => {
  const [, end] = MARKS;
  const options = { reply: () => thoughtful(true), hangAfter: thoughtful(true).indexOf(end), gate: new Gate() };
  const nodes = [await join(options), await join(options)];
  const response_format = zodResponseFormat(Visit, 'visit');
  const request = { ...base, ...THINKING, response_format, stream: true as const };
  let [text, reasoning, killed] = ['', '', 0];
  for await (const chunk of await client.chat.completions.create(request)) {
    const delta = chunk.choices[0]?.delta as { content?: string; reasoning_content?: string } | undefined;
    text += delta?.content ?? '';
    reasoning += delta?.reasoning_content ?? '';
    const serving = nodes.find((node) => node.of('generate').length > 0);
    if (killed > 0 || reasoning.length < 5 || serving === undefined) continue;
    expect(text).toBe('');
    killed += 1;
    serving.socket.terminate();
    options.gate.open();
  }
  expect(killed).toBe(1);
  expect([reasoning, text]).toEqual(['Not {"city": 5}, but', TEXT]);
  const [first, second] = nodes.flatMap((node) => node.of('generate')).sort((a, b) => a.attempt - b.attempt);
  expect(second?.generate.thought).toEqual(first?.generate.thought);
  expect(second?.generate.choices[0]?.generated.length).toBeGreaterThan(0);
});

it('min_tokens and ignore_eos go with the grammar', async () => {
  const node = await join();
  const request = { ...base, guided_regex: 'a+', min_tokens: 3 };
  await client.chat.completions.create(request as typeof base);
  await client.chat.completions.create({ ...request, ignore_eos: true } as typeof base);
  const [least, endless] = node.of('generate').map(({ generate }) => generate);
  expect(least).toMatchObject({ sampling: { minTokens: 3 }, grammar: expect.stringContaining('root') });
  expect(least).not.toHaveProperty('grammarEnds');
  expect(least?.sampling.stopIds).toContain(EOS);
  expect(endless?.grammarEnds).toEqual(least?.sampling.stopIds);
  expect(endless?.sampling.stopIds).toEqual([]);
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
  await expect(refused({ tool_choice: 'required', response_format: { type: 'json_object' } })).rejects.toMatchObject({
    status: 400,
    param: 'response_format',
  });
  await expect(refused({ tool_choice: { type: 'function', function: { name: 'other' } } })).rejects.toMatchObject({
    status: 400,
    param: 'tool_choice',
  });
});
