import Anthropic from '@anthropic-ai/sdk';
import { jsonSchemaOutputFormat } from '@anthropic-ai/sdk/helpers/json-schema';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MessageShape } from '../../../src/frontend/anthropic/message-shape.ts';
import { Tally } from '../../../src/frontend/usage.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { answers, cut, cuts, READING } from './cut-answers.ts';
import { pico, type Script, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź"}}\n</tool_call>';
const input_schema = { type: 'object' as const, properties: { city: { type: 'string' } }, required: ['city'] };
const tools = [{ name: 'get_weather', description: 'Weather of a city', input_schema }];
const base = {
  model: 'quire-pico',
  max_tokens: 500,
  messages: [{ role: 'user' as const, content: 'Weather in Łódź?' }],
};

const api = (script: Script, change: Parameters<typeof servedModel>[1] = {}) => {
  const backend = new ScriptedBackend(script);
  const { fetch, post, client: openai } = testApi([servedModel(backend, change)]);
  const client = new Anthropic({
    baseURL: 'http://quire.test',
    apiKey: 'none',
    maxRetries: 0,
    fetch: (url, init) => fetch(String(url), init),
  });
  return { backend, client, openai, post };
};
const promptText = (request: GenerateRequest | undefined) =>
  new TextDecoder().decode(Buffer.concat((request?.prompt ?? []).map((id) => pico.piece(id).bytes)));
/** Ids are made up anew each time; streams of the client have a field of its own. */
const unnamed = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (key, each) => (key === 'id' || key === 'parsed_output' ? undefined : each)));

describe('an answer, by the official client', () => {
  test('of a text, with what it cost: what the cache had is counted by itself', async () => {
    const { client, backend } = api({ ...saying('It is sunny.'), cached: 16 });
    const message = await client.messages.create(base);
    const said = pico.encode('It is sunny.', false).length + 1;
    expect(message).toMatchObject({
      type: 'message',
      role: 'assistant',
      model: 'quire-pico',
      content: [{ type: 'text', text: 'It is sunny.' }],
      stop_reason: 'end_turn',
      stop_sequence: null,
      usage: {
        input_tokens: (backend.requests[0]?.prompt.length ?? 0) - 16,
        cache_read_input_tokens: 16,
        cache_creation_input_tokens: 0,
        output_tokens: said,
      },
    });
    expect(message.id).toMatch(/^msg_/);
    expect(backend.requests[0]?.sampling.maxTokens).toBe(500);
  });

  test('turns with calls and results are the prompt of the same chat, which can be counted', async () => {
    const { client, openai, backend } = api(saying('x'));
    const prompt = {
      model: 'quire-pico',
      system: [{ type: 'text' as const, text: 'Be kind.', cache_control: { type: 'ephemeral' as const } }],
      tools,
      thinking: { type: 'adaptive' as const },
      messages: [
        { role: 'user' as const, content: 'Weather in Łódź?' },
        {
          role: 'assistant' as const,
          content: [
            { type: 'thinking' as const, thinking: 'I must ask.', signature: 'unsigned' },
            { type: 'text' as const, text: 'Let me see.', citations: null },
            { type: 'tool_use' as const, id: 'call00001', name: 'get_weather', input: { city: 'Łódź' } },
          ],
        },
        {
          role: 'user' as const,
          content: [
            {
              type: 'tool_result' as const,
              tool_use_id: 'call00001',
              content: [{ type: 'text' as const, text: 'sunny' }],
            },
            { type: 'text' as const, text: 'And' },
            { type: 'text' as const, text: 'tomorrow?' },
          ],
        },
      ],
    };
    await client.messages.create({ ...prompt, max_tokens: 5 });
    const call = { name: 'get_weather', arguments: '{"city": "Łódź"}' };
    const assistant = {
      role: 'assistant' as const,
      content: 'Let me see.',
      reasoning_content: 'I must ask.',
      tool_calls: [{ id: 'call00001', type: 'function' as const, function: call }],
    };
    const { name, description, input_schema: parameters } = tools[0]!;
    await openai.chat.completions.create({
      model: 'quire-pico',
      tools: [{ type: 'function', function: { name, description, parameters } }],
      // @ts-expect-error: vLLM's.
      chat_template_kwargs: { enable_thinking: true },
      messages: [
        { role: 'system', content: 'Be kind.' },
        { role: 'user', content: 'Weather in Łódź?' },
        assistant,
        { role: 'tool', content: 'sunny', tool_call_id: 'call00001' },
        { role: 'user', content: 'And\ntomorrow?' },
      ],
    });
    const [turns, chat] = backend.requests;
    expect(promptText(turns)).toContain('<tool_response>\nsunny');
    expect(promptText(turns)).toBe(promptText(chat));
    expect(await client.messages.countTokens(prompt)).toEqual({ input_tokens: turns?.prompt.length });
  });

  test('thinking, text and calls are blocks in their order', async () => {
    const { client } = api(saying(`<think>\nI must ask.\n</think>\n\nLet me see.\n${CALL}\n${CALL}`));
    const { content, stop_reason, usage } = await client.messages.create({ ...base, tools });
    expect(content).toMatchObject([
      { type: 'thinking', thinking: 'I must ask.', signature: expect.stringMatching(/./) },
      { type: 'text', text: 'Let me see.' },
      { type: 'tool_use', name: 'get_weather', input: { city: 'Łódź' } },
      { type: 'tool_use', name: 'get_weather', input: { city: 'Łódź' } },
    ]);
    expect(stop_reason).toBe('tool_use');
    const ids = content.flatMap((block) => (block.type === 'tool_use' ? [block.id] : []));
    expect(new Set(ids).size).toBe(2);
    expect(usage.output_tokens_details?.thinking_tokens).toBe(pico.encode('\nI must ask.\n', false).length);
  });

  test.each([false, true])('says why it stopped, streamed: %s', async (stream) => {
    const { client } = api(saying(`Let me see.\n${CALL}`));
    const ask = (more: object) =>
      stream
        ? client.messages.stream({ ...base, ...more }).finalMessage()
        : client.messages.create({ ...base, ...more });
    expect(await ask({ stop_sequences: ['me'] })).toMatchObject({
      content: [{ text: 'Let ' }],
      stop_reason: 'stop_sequence',
      stop_sequence: 'me',
    });
    const length = pico.encode(`Let me see.\n${CALL}`, false).length;
    const { content, stop_reason } = await ask({ tools, max_tokens: length - 8 });
    expect(stop_reason).toBe('max_tokens');
    expect(content).toMatchObject([{ type: 'text' }, { type: 'tool_use', name: 'get_weather' }]);
  });

  test('goes on with a last turn that is its own', async () => {
    const { client, backend } = api(saying(' sunny.'));
    const messages = [...base.messages, { role: 'assistant' as const, content: 'It is' }];
    const { content } = await client.messages.create({ ...base, messages });
    expect(promptText(backend.requests[0]).endsWith('It is')).toBe(true);
    expect(content).toMatchObject([{ text: ' sunny.' }]);
  });

  test('held to a format, and to calls that are forced, one of them where it says so', async () => {
    const { client, backend } = api(saying('{"city": "Łódź"}'));
    const format = jsonSchemaOutputFormat({
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
      additionalProperties: false,
    });
    const parsed = await client.messages.parse({ ...base, output_config: { format } });
    expect(parsed.parsed_output).toEqual({ city: 'Łódź' });
    const forced = await client.messages.create({
      ...base,
      tools: [{ ...tools[0]!, strict: true }],
      tool_choice: { type: 'tool', name: 'get_weather' },
    });
    expect(forced).toMatchObject({ content: [{ type: 'tool_use', input: { city: 'Łódź' } }], stop_reason: 'tool_use' });
    const any = { type: 'any' as const };
    await client.messages.create({ ...base, tools, tool_choice: any });
    await client.messages.create({ ...base, tools, tool_choice: { ...any, disable_parallel_tool_use: true } });
    await client.messages.create({ ...base, tools, tool_choice: { type: 'none' } });
    const [json, one, many, first, none] = backend.requests.map((request) => request.grammar);
    expect([json, one, many, first].every((grammar) => grammar !== undefined)).toBe(true);
    expect(many).not.toBe(first);
    expect(none).toBeUndefined();
    expect(promptText(backend.requests[4])).not.toContain('get_weather');
  });

  test('thinks only where it was asked to, and shows it unless that is omitted', async () => {
    const { client, openai, backend } = api(saying('<think>\nHm.\n</think>\n\nYes.'));
    for (const thinking of [
      undefined,
      { type: 'disabled' as const },
      { type: 'enabled' as const, budget_tokens: 1024 },
    ])
      await client.messages.create({ ...base, ...(thinking === undefined ? {} : { thinking }) });
    for (const enable_thinking of [false, true]) {
      const more = { chat_template_kwargs: { enable_thinking } };
      await openai.chat.completions.create({ ...base, ...more });
    }
    const [none, disabled, enabled, off, on] = backend.requests.map(promptText);
    expect(off).not.toBe(on);
    expect([none, disabled, enabled]).toEqual([off, off, on]);
    const thinking = { type: 'adaptive' as const, display: 'omitted' as const };
    const { content } = await client.messages.create({ ...base, thinking });
    expect(content).toMatchObject([{ type: 'text', text: 'Yes.' }]);
    const plain = api(saying('Yes.'), { parsers: { toolCalls: 'hermes', reasoning: null } });
    expect((await plain.client.messages.create(base)).content).toHaveLength(1);
  });
});

describe('a stream', () => {
  test('has all events in their order, named by their types', async () => {
    const { post } = api({ ...saying(`<think>\nHm.\n</think>\n\nLet me see.\n${CALL}`), frame: 1000 });
    const response = await post('/v1/messages', { ...base, tools, stream: true });
    const events = (await response.text())
      .split('\n\n')
      .slice(0, -1)
      .map((event) => {
        const [name, data] = /^event: (.*)\ndata: (.*)$/s.exec(event)?.slice(1) ?? [];
        const body = JSON.parse(data ?? '') as { type: string; delta?: { type?: string } };
        expect(body.type).toBe(name);
        return body.delta?.type ?? body.type;
      });
    expect(events.filter((event, at) => event !== events[at - 1])).toEqual([
      'message_start',
      'content_block_start',
      'thinking_delta',
      'signature_delta',
      'content_block_stop',
      'content_block_start',
      'text_delta',
      'content_block_stop',
      'content_block_start',
      'input_json_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ]);
  });

  test.each([1, 3, 1000])('of %i tokens a frame: the client puts the whole answer together', async (frame) => {
    const { client } = api({ ...saying(`<think>\nHm.\n</think>\n\nLet me see.\n${CALL}`), frame, cached: 16 });
    const whole = await client.messages.create({ ...base, tools });
    const stream = client.messages.stream({ ...base, tools });
    let told = '';
    stream.on('text', (delta) => {
      told += delta;
    });
    expect(unnamed(await stream.finalMessage())).toEqual(unnamed(whole));
    expect(told).toBe('Let me see.');
  });

  test('any cut of any answer gives the whole one', async () => {
    const usage = new Tally(3).usage();
    const head = { id: 'msg_x', created: 1, model: 'm' };
    const finish = { reason: 'stop', stopReason: null } as const;
    await fc.assert(
      fc.asyncProperty(answers, cuts, async (text, at) => {
        const shape = () => new MessageShape({ head, reading: READING, requestId: null });
        const whole = shape().whole([{ choice: 0, text, tokens: [], finish, promptLogprobs: null }], usage);
        const streamed = shape();
        const events = [
          ...streamed.start(usage),
          ...cut(text, at, finish).flatMap((delta) => [...streamed.chunks(delta)]),
          ...streamed.end(usage),
        ];
        const body = events.map(
          (event) => `event: ${(event as { type: string }).type}\ndata: ${JSON.stringify(event)}\n\n`,
        );
        const client = new Anthropic({
          apiKey: 'none',
          fetch: async () => new Response(body.join(''), { headers: { 'content-type': 'text/event-stream' } }),
        });
        const message = await client.messages.stream(base).finalMessage();
        expect(unnamed(message)).toEqual(unnamed(whole));
      }),
      { numRuns: 60 },
    );
  });

  test('that fails ends with an error; what fails before it began has its own status', async () => {
    const failing = (frames: number) =>
      testApi([
        servedModel({
          async *generate(request) {
            const tokens = [pico.encode('a', false)[0]!];
            for (let offset = 0; offset < frames; offset++)
              yield { request: request.request, choice: 0, offset, tokens, cachedTokens: 0 };
            throw new Error('broken');
          },
        }),
      ]);
    const early = await failing(0).post('/v1/messages', { ...base, stream: true });
    expect(early.status).toBe(500);
    expect(await early.json()).toMatchObject({ type: 'error', error: { type: 'api_error' } });
    const late = await (await failing(3).post('/v1/messages', { ...base, stream: true })).text();
    expect(late).toMatch(/event: error\ndata: \{"type":"error","error":\{"type":"api_error",[^\n]*\n\n$/);
  });

  test('in which nothing is said gets pings, which the client skips', async () => {
    const clock = new FakeClock();
    let say = () => {};
    const waiting = new Promise<void>((resolve) => {
      say = resolve;
    });
    const backend = new ScriptedBackend({ ...saying('Yes.'), pause: () => waiting });
    const { post } = testApi([servedModel(backend)], {
      after: (ms, task) => clock.after(ms, task),
      keepAliveSeconds: 10,
    });
    const asked = post('/v1/messages', { ...base, stream: true });
    await new Promise((resolve) => setTimeout(resolve));
    clock.advance(10_000);
    const response = await asked;
    say();
    expect(await response.text()).toMatch(/^event: ping\ndata: \{"type": "ping"\}\n\nevent: message_start\n/);
  });
});

const block = (content: object) => [{ role: 'user', content: [content] }];
test.each<[Record<string, unknown>, string]>([
  [{ max_tokens: undefined }, 'max_tokens'],
  [{ max_tokens: 4096 }, 'max_tokens'],
  [{ n: 2 }, 'n'],
  [{ logprobs: true }, 'logprobs'],
  [{ container: 'x' }, 'container'],
  [{ mcp_servers: [] }, 'mcp_servers'],
  [{ output_config: { effort: 'high' } }, 'output_config.effort'],
  [
    { output_config: { format: { type: 'json_schema', schema: { type: 'string', minLength: -1 } } } },
    'output_config.format',
  ],
  [{ thinking: { type: 'between_tools' } }, 'thinking.type'],
  [{ tools: [{ type: 'bash_20250124', name: 'bash' }] }, 'tools[0].type'],
  [{ tools: [{ name: 'a' }] }, 'tools[0].input_schema'],
  [{ tool_choice: { type: 'any' } }, 'tool_choice'],
  [
    { tools: [{ name: 'a', input_schema: { type: 'array', minItems: -1 } }], tool_choice: { type: 'any' } },
    'tools[0].input_schema',
  ],
  [{ messages: [] }, 'messages'],
  [{ messages: block({ type: 'image', source: {} }) }, 'messages[0].content[0].type'],
  [{ messages: block({ type: 'document', source: {} }) }, 'messages[0].content[0].type'],
  [
    { messages: block({ type: 'tool_result', tool_use_id: 'a', content: [{ type: 'image' }] }) },
    'messages[0].content[0].content[0].type',
  ],
  [{ messages: [{ role: 'tool', content: 'x' }] }, 'messages[0].role'],
  [
    { messages: [{ role: 'assistant', content: [{ type: 'redacted_thinking', data: 'x' }] }] },
    'messages[0].content[0].type',
  ],
  [{ messages: [{ role: 'assistant', content: [{ type: 'tool_use', id: 'a', name: 'b', input: {} }] }] }, 'messages'],
  [{ messages: [{ role: 'assistant', content: ' ' }] }, 'messages'],
])("refuses %j in Anthropic's form and names %s", async (fields, param) => {
  const { post, backend } = api(saying('x'));
  const response = await post('/v1/messages', { ...base, ...fields });
  expect(response.status).toBe(400);
  const body = (await response.json()) as { error: { message: string } };
  expect(body).toEqual({
    type: 'error',
    error: expect.objectContaining({ type: 'invalid_request_error' }),
    request_id: null,
  });
  expect(body.error.message).toContain(`'${param}`);
  expect(backend.requests).toHaveLength(0);
});
