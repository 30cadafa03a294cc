import fc from 'fast-check';
import type OpenAI from 'openai';
import { accumulateResponse } from 'openai/lib/responses/ResponseAccumulator';
import { describe, expect, test } from 'vitest';
import { ResponsesShape } from '../../../src/frontend/responses/response-shape.ts';
import { Tally } from '../../../src/frontend/usage.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { answers, cut, cuts, READING } from './cut-answers.ts';
import { EOS, pico, type Script, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

type Responses = OpenAI.Responses.Response;
const CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Łódź"}}\n</tool_call>';
const tools = [
  {
    type: 'function' as const,
    name: 'get_weather',
    description: 'Weather of a city',
    strict: false,
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
];
const base = { model: 'quire-pico', input: 'Weather in Łódź?' };

const api = (
  script: Script,
  change: Parameters<typeof servedModel>[1] = {},
  options: Parameters<typeof testApi>[1] = {},
) => {
  const backend = new ScriptedBackend(script);
  return { backend, ...testApi([servedModel(backend, change)], options) };
};
const promptText = (request: GenerateRequest | undefined) =>
  new TextDecoder().decode(Buffer.concat((request?.prompt ?? []).map((id) => pico.piece(id).bytes)));
/** Ids are made up anew each time. */
const unnamed = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (key, each) =>
      key === 'id' || key === 'call_id' || key === 'output_text' ? undefined : each,
    ),
  );

describe('an answer, by the official client', () => {
  test('of a text: one message, with what was taken and what it cost', async () => {
    const { client, backend } = api({ ...saying('It is sunny.'), cached: 16 });
    const response = await client.responses.create({ ...base, temperature: 0, metadata: { a: 'b' } });
    const [prompt] = backend.requests;
    const said = pico.encode('It is sunny.', false).length + 1;
    expect(response.output_text).toBe('It is sunny.');
    expect(response).toMatchObject({
      object: 'response',
      status: 'completed',
      created_at: 1_700_000_000,
      completed_at: 1_700_000_000,
      error: null,
      incomplete_details: null,
      model: 'quire-pico',
      temperature: 0,
      top_p: 0.95,
      metadata: { a: 'b' },
      output: [
        {
          type: 'message',
          role: 'assistant',
          status: 'completed',
          content: [{ type: 'output_text', annotations: [] }],
        },
      ],
      usage: {
        input_tokens: prompt?.prompt.length,
        input_tokens_details: { cached_tokens: 16 },
        output_tokens: said,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: (prompt?.prompt.length ?? 0) + said,
      },
    });
    expect(response.id).toMatch(/^resp_/);
  });

  test('a conversation of items is the prompt of the same chat', async () => {
    const { client, backend } = api(saying('x'));
    await client.responses.create({
      model: 'quire-pico',
      instructions: 'Be kind.',
      tools,
      input: [
        {
          role: 'user',
          content: [
            { type: 'input_text', text: 'Weather?' },
            { type: 'input_text', text: 'In Łódź.' },
          ],
        },
        { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'I must ask.' }] },
        {
          type: 'message',
          id: 'msg_1',
          role: 'assistant',
          status: 'completed',
          content: [{ type: 'output_text', text: 'Let me see.', annotations: [] }],
        },
        { type: 'function_call', call_id: 'call00001', name: 'get_weather', arguments: '{"city": "Łódź"}' },
        { type: 'function_call_output', call_id: 'call00001', output: 'sunny' },
        { role: 'developer', content: 'Be brief.' },
      ],
    });
    const call = {
      id: 'call00001',
      type: 'function' as const,
      function: { name: 'get_weather', arguments: '{"city": "Łódź"}' },
    };
    const assistant = {
      role: 'assistant' as const,
      content: 'Let me see.',
      reasoning_content: 'I must ask.',
      tool_calls: [call],
    };
    await client.chat.completions.create({
      model: 'quire-pico',
      tools: tools.map(({ type, ...tool }) => ({ type, function: tool })),
      messages: [
        { role: 'system', content: 'Be kind.' },
        { role: 'user', content: 'Weather?\nIn Łódź.' },
        assistant,
        { role: 'tool', content: 'sunny', tool_call_id: 'call00001' },
        { role: 'developer', content: 'Be brief.' },
      ],
    });
    const [items, chat] = backend.requests;
    expect(promptText(items)).toContain('<tool_response>\nsunny');
    expect(promptText(items)).toBe(promptText(chat));
  });

  test('reasoning, text and calls are items in their order; tokens of reasoning are counted', async () => {
    const { client } = api(saying(`<think>\nI must ask.\n</think>\n\nLet me see.\n${CALL}\n${CALL}`));
    const { output, usage, output_text } = await client.responses.create({ ...base, tools });
    expect(output_text).toBe('Let me see.');
    expect(output).toMatchObject([
      {
        type: 'reasoning',
        summary: [],
        content: [{ type: 'reasoning_text', text: 'I must ask.' }],
        status: 'completed',
      },
      { type: 'message', content: [{ text: 'Let me see.' }] },
      { type: 'function_call', name: 'get_weather', arguments: expect.any(String), status: 'completed' },
      { type: 'function_call', name: 'get_weather' },
    ]);
    const calls = output.filter((item) => item.type === 'function_call');
    expect(calls.map((call) => JSON.parse(call.arguments))).toEqual([{ city: 'Łódź' }, { city: 'Łódź' }]);
    expect(new Set(output.map((item) => item.id)).size).toBe(4);
    expect(calls[0]?.call_id).not.toBe(calls[1]?.call_id);
    expect(usage?.output_tokens_details.reasoning_tokens).toBe(pico.encode('\nI must ask.\n', false).length);
  });

  test('cut by max_output_tokens it is incomplete, and so is its last item', async () => {
    const { client } = api(saying(`Let me see.\n${CALL}`));
    const whole = pico.encode(`Let me see.\n${CALL}`, false).length;
    const response = await client.responses.create({ ...base, tools, max_output_tokens: whole - 8 });
    expect(response).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      completed_at: null,
      output: [
        { type: 'message', status: 'completed' },
        { type: 'function_call', status: 'incomplete' },
      ],
    });
    // A call that nobody could answer is no part of what is gone on with.
    const next = await client.responses.create({ ...base, previous_response_id: response.id });
    expect(next.status).toBe('completed');
  });

  test('held to a format, and to calls that are forced', async () => {
    const { client, backend } = api(saying('{"a": 1}'));
    const schema = {
      type: 'object',
      properties: { a: { type: 'integer' } },
      required: ['a'],
      additionalProperties: false,
    };
    const format = { type: 'json_schema' as const, name: 'a', strict: true, schema };
    const parsed = await client.responses.parse({ ...base, text: { format } });
    expect(parsed.output_parsed).toEqual({ a: 1 });
    const chat = { model: 'quire-pico', messages: [{ role: 'user' as const, content: 'x' }] };
    const { type, ...json_schema } = format;
    await client.chat.completions.create({ ...chat, response_format: { type, json_schema } });
    expect(backend.requests[0]?.grammar).toBeDefined();
    expect(backend.requests[0]?.grammar).toBe(backend.requests[1]?.grammar);
    const strict = [{ ...tools[0]!, strict: true }];
    const choice = { type: 'function' as const, name: 'get_weather' };
    const forced = await client.responses.create({ ...base, tools: strict, tool_choice: choice });
    expect(forced.output).toMatchObject([{ type: 'function_call', name: 'get_weather', arguments: '{"a": 1}' }]);
  });

  test.each([false, true])('logprobs of all tokens are with the text, streamed: %s', async (stream) => {
    const { client } = api(saying('It is sunny.'));
    const request = { ...base, include: ['message.output_text.logprobs' as const], top_logprobs: 2 };
    const response = stream
      ? await client.responses.stream(request).finalResponse()
      : await client.responses.create(request);
    const [message] = response.output;
    const part = message?.type === 'message' ? message.content[0] : undefined;
    const logprobs = part?.type === 'output_text' ? (part.logprobs ?? []) : [];
    expect(logprobs).toHaveLength(pico.encode('It is sunny.', false).length + 1);
    expect(logprobs[0]).toMatchObject({ logprob: -0.75, top_logprobs: [{}, {}] });
  });

  test('reasoning.effort turns reasoning on or off where the template knows how', async () => {
    const { client, backend } = api(saying('x'));
    await client.responses.create({ ...base, reasoning: { effort: 'none' } });
    await client.responses.create({ ...base, reasoning: { effort: 'high', summary: 'auto' } });
    for (const enable_thinking of [false, true])
      await client.chat.completions.create({
        model: 'quire-pico',
        messages: [{ role: 'user', content: base.input }],
        // @ts-expect-error: vLLM's.
        chat_template_kwargs: { enable_thinking },
      });
    const [off, on, chatOff, chatOn] = backend.requests.map(promptText);
    expect(off).not.toBe(on);
    expect([off, on]).toEqual([chatOff, chatOn]);
  });
});

describe('a stream', () => {
  test('has all events in their order, numbered without a hole, and no [DONE]', async () => {
    const { post } = api(saying(`<think>\nHm.\n</think>\n\nLet me see.\n${CALL}`));
    const response = await post('/v1/responses', { ...base, tools, stream: true });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const events = (await response.text())
      .split('\n\n')
      .slice(0, -1)
      .map((event) => {
        const [name, data] = /^event: (.*)\ndata: (.*)$/s.exec(event)?.slice(1) ?? [];
        const body = JSON.parse(data ?? '') as { type: string; sequence_number: number };
        expect(body.type).toBe(name);
        return body;
      });
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, at) => at));
    const kinds = events.map((event) => event.type.replace('response.', ''));
    expect(kinds.filter((kind, at) => kind !== kinds[at - 1])).toEqual([
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      'reasoning_text.delta',
      'reasoning_text.done',
      'content_part.done',
      'output_item.done',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'output_item.added',
      'function_call_arguments.delta',
      'function_call_arguments.done',
      'output_item.done',
      'completed',
    ]);
  });

  test.each([1, 3, 1000])('of %i tokens a frame: the client puts the whole answer together', async (frame) => {
    const { client } = api({ ...saying(`<think>\nHm.\n</think>\n\nLet me see.\n${CALL}`), frame });
    const whole = await client.responses.create({ ...base, tools });
    const stream = client.responses.stream({ ...base, tools });
    let told = '';
    stream.on('response.output_text.delta', ({ delta }) => {
      told += delta;
    });
    const streamed = await stream.finalResponse();
    expect(told).toBe('Let me see.');
    const { output_parsed: _, ...rest } = streamed;
    const output = rest.output.map((item) => {
      const { parsed_arguments: __, ...kept } = item as typeof item & { parsed_arguments?: unknown };
      if (kept.type === 'message') for (const part of kept.content) delete (part as { parsed?: unknown }).parsed;
      return kept;
    });
    expect(unnamed({ ...rest, output })).toEqual(unnamed(whole));
  });

  test('any cut of any answer gives the whole one, by its events and at its end', () => {
    fc.assert(
      fc.property(answers, cuts, fc.constantFrom('stop' as const, 'length' as const), (text, at, reason) => {
        const usage = new Tally(3).usage();
        const facts = { created_at: 1, model: 'm' };
        const shape = () =>
          new ResponsesShape({ id: 'resp_x', facts, reading: READING, names: null, now: () => 5000, ended: () => {} });
        const finish = { reason, stopReason: null };
        const whole = shape().whole([{ choice: 0, text, tokens: [], finish, promptLogprobs: null }], usage);
        const streamed = shape();
        const events = [
          ...streamed.start(),
          ...cut(text, at, finish).flatMap((delta) => [...streamed.chunks(delta)]),
        ] as OpenAI.Responses.ResponseStreamEvent[];
        let snapshot: Responses | undefined;
        for (const event of events) snapshot = accumulateResponse(event, snapshot);
        const [last] = streamed.end(usage) as Iterable<{ response: Responses }>;
        expect(unnamed(last?.response)).toEqual(unnamed(whole));
        expect(unnamed(snapshot?.output)).toEqual(unnamed((whole as Responses).output));
      }),
    );
  });
});

describe('kept responses', () => {
  test.each([false, true])('are gone on with, told and deleted; made by a stream: %s', async (stream) => {
    const { client, backend } = api({
      tokens: (request) => [
        ...pico.encode(promptText(request).includes('sunny') ? 'Yes.' : `<think>Hm.</think>${CALL}`, false),
        EOS,
      ],
    });
    const request = { ...base, instructions: 'Be kind.', tools };
    const first = stream
      ? await client.responses.stream(request).finalResponse()
      : await client.responses.create(request);
    const [call] = first.output.flatMap((item) => (item.type === 'function_call' ? [item] : []));
    const output = { type: 'function_call_output' as const, call_id: call?.call_id ?? '', output: 'sunny' };
    const next = await client.responses.create({ ...base, tools, previous_response_id: first.id, input: [output] });
    expect(next).toMatchObject({ output_text: 'Yes.', previous_response_id: first.id });
    await client.responses.create({ ...base, previous_response_id: next.id, input: 'Sure?' });
    const prompt = promptText(backend.requests[2]);
    // Instructions are of one request.
    expect(prompt).not.toContain('Be kind.');
    const at = ['Weather in Łódź?', '"city": "Łódź"', '<tool_response>\nsunny', 'Yes.', 'Sure?'].map((text) =>
      prompt.indexOf(text),
    );
    expect(Math.min(...at)).toBeGreaterThanOrEqual(0);
    expect(at).toEqual(at.toSorted((a, b) => a - b));

    expect(unnamed(await client.responses.retrieve(next.id))).toEqual(unnamed(next));
    await expect(client.responses.cancel(next.id)).rejects.toMatchObject({ status: 400, param: 'background' });
    await client.responses.delete(next.id);
    for (const call of [
      client.responses.retrieve(next.id),
      client.responses.delete(next.id),
      client.responses.cancel(next.id),
    ])
      await expect(call).rejects.toMatchObject({ status: 404, code: 'response_not_found' });
    await expect(client.responses.create({ ...base, previous_response_id: next.id })).rejects.toMatchObject({
      status: 400,
      code: 'previous_response_not_found',
    });
    await expect(client.responses.retrieve(first.id, { stream: true })).rejects.toMatchObject({
      status: 400,
      param: 'stream',
    });
  });

  test('store: false keeps nothing', async () => {
    const { client } = api(saying('x'));
    const { id, store } = (await client.responses.create({ ...base, store: false })) as Responses & { store: boolean };
    expect(store).toBe(false);
    await expect(client.responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
  });
});
