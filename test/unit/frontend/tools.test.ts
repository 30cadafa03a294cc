import type OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { loadChatTokenizer } from '../../../src/frontend/tokenizer.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { EOS, PICO_FILES, pico, type Script, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const TokenizerJson = z.object({ added_tokens: z.array(z.looseObject({})) });

const tool = (name: string, parameters: Record<string, unknown> = { type: 'object', properties: {} }) => ({
  type: 'function' as const,
  function: { name, description: `The tool ${name}.`, parameters },
});
const tools = [tool('get_weather'), tool('now')];
const base = { model: 'quire-pico', messages: [{ role: 'user' as const, content: 'Weather in Lima?' }] };
const asked = { ...base, tools };

const WEATHER =
  '<tool_call>\n{"name": "get_weather", "arguments": {"city": "São \\"Tomé\\" 🎉", "days": [1, {"a": null}]}}\n</tool_call>';
const NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>';
const ARGUMENTS = { city: 'São "Tomé" 🎉', days: [1, { a: null }] };

const api = (script: Script, change: Parameters<typeof servedModel>[1] = {}) => {
  const backend = new ScriptedBackend(script);
  return { backend, ...testApi([servedModel(backend, change)]) };
};
type Message = OpenAI.ChatCompletionMessage & { reasoning_content?: string };
const promptText = (request: GenerateRequest | undefined) =>
  new TextDecoder().decode(Buffer.concat((request?.prompt ?? []).map((id) => pico.piece(id).bytes)));

describe('tool calls, by the official client', () => {
  test('whole: content is null, arguments are JSON, the reason is tool_calls', async () => {
    const { client } = api(saying(`${WEATHER}\n${NOW}`));
    const { choices } = await client.chat.completions.create(asked);
    expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { role: 'assistant', content: null } });
    const calls = choices[0]?.message.tool_calls ?? [];
    expect(calls).toEqual([
      {
        id: expect.stringMatching(/^\w{9}$/),
        type: 'function',
        function: { name: 'get_weather', arguments: expect.any(String) },
      },
      { id: expect.stringMatching(/^\w{9}$/), type: 'function', function: { name: 'now', arguments: '{}' } },
    ]);
    expect(calls[0]?.id).not.toBe(calls[1]?.id);
    expect(calls[0]?.type === 'function' && JSON.parse(calls[0].function.arguments)).toEqual(ARGUMENTS);
  });

  test.each([1, 3, 1000])('streamed, %i tokens a frame: the client puts the same together', async (frame) => {
    const { client } = api({ ...saying(`Let me see.\n${WEATHER}\n${NOW}`), frame });
    const stream = client.chat.completions.stream(asked);
    const deltas: string[] = [];
    stream.on('tool_calls.function.arguments.delta', ({ arguments_delta: delta }) => deltas.push(delta));
    const { choices } = await stream.finalChatCompletion();
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        content: 'Let me see.',
        tool_calls: [
          { type: 'function', function: { name: 'get_weather' } },
          { type: 'function', function: { name: 'now', arguments: '{}' } },
        ],
      },
    });
    const [call] = choices[0]?.message.tool_calls ?? [];
    expect(JSON.parse(call?.function.arguments ?? '')).toEqual(ARGUMENTS);
    if (frame === 1) expect(deltas.length).toBeGreaterThan(5);
  });

  test('the chunks: index, id, type and name once, then arguments alone', async () => {
    const { client } = api(saying(`${WEATHER}\n${NOW}`));
    const deltas: OpenAI.ChatCompletionChunk.Choice.Delta.ToolCall[] = [];
    for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
      deltas.push(...(chunk.choices[0]?.delta.tool_calls ?? []));
    for (const index of [0, 1]) {
      const [first, ...rest] = deltas.filter((delta) => delta.index === index);
      expect(first).toMatchObject({ id: expect.stringMatching(/^\w{9}$/), type: 'function' });
      expect(first?.function?.name).toBe(index === 0 ? 'get_weather' : 'now');
      for (const delta of rest) expect(Object.keys(delta).sort()).toEqual(['function', 'index']);
      for (const delta of rest) expect(Object.keys(delta.function ?? {})).toEqual(['arguments']);
    }
  });

  test('a loop of tools runs to its answer', async () => {
    const { client, backend } = api({
      tokens: ({ prompt }) => {
        const text = promptText({ prompt } as GenerateRequest);
        return [...pico.encode(text.includes('<tool_response>') ? 'It is sunny.' : WEATHER, false), EOS];
      },
    });
    const cities: unknown[] = [];
    const runner = client.chat.completions.runTools({
      ...base,
      tools: [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            description: 'Weather of a city',
            parameters: { type: 'object', properties: { city: { type: 'string' } } },
            parse: JSON.parse,
            function: ({ city }: { city: string }) => {
              cities.push(city);
              return 'sunny';
            },
          },
        },
      ],
    });
    expect(await runner.finalContent()).toBe('It is sunny.');
    expect(cities).toEqual([ARGUMENTS.city]);
    expect(promptText(backend.requests[1])).toContain(
      '<tool_call>\n{"name": "get_weather", "arguments": {"city": "São',
    );
    expect(promptText(backend.requests[1])).toContain('<tool_response>\nsunny\n</tool_response>');
  });

  test('a streamed loop of tools, too', async () => {
    const { client } = api({
      tokens: ({ prompt }) => {
        const text = promptText({ prompt } as GenerateRequest);
        return [...pico.encode(text.includes('<tool_response>') ? 'It is sunny.' : WEATHER, false), EOS];
      },
    });
    const runner = client.chat.completions.runTools({
      ...base,
      stream: true,
      tools: [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            description: '',
            parameters: {},
            parse: JSON.parse,
            function: () => 'sunny',
          },
        },
      ],
    });
    expect(await runner.finalContent()).toBe('It is sunny.');
  });

  test('cut at the token limit: the reason is length, what came of the call is there', async () => {
    const said = pico.encode(WEATHER, false);
    const { client } = api(saying(WEATHER));
    const { choices } = await client.chat.completions.create({ ...asked, max_completion_tokens: said.length - 6 });
    expect(choices[0]?.finish_reason).toBe('length');
    const call = choices[0]?.message.tool_calls?.[0];
    expect(call?.type === 'function' && call.function.name).toBe('get_weather');
    expect(() => JSON.parse((call?.type === 'function' && call.function.arguments) || '')).toThrow();
  });

  test('ended by the model inside of a call: the reason stays stop', async () => {
    const { client } = api(saying(WEATHER.slice(0, 60)));
    const { choices } = await client.chat.completions.create(asked);
    expect(choices[0]?.finish_reason).toBe('stop');
    expect(choices[0]?.message.tool_calls).toHaveLength(1);
  });

  test('what only looks like a call is text', async () => {
    const text = 'Write <tool_call> first.';
    const { client } = api(saying(text));
    const { choices } = await client.chat.completions.create(asked);
    expect(choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: text } });
    expect(choices[0]?.message).not.toHaveProperty('tool_calls');
  });

  test('without tools, or with tool_choice none, nothing is a call', async () => {
    const { client } = api(saying(NOW));
    for (const request of [base, { ...asked, tool_choice: 'none' as const }]) {
      const { choices } = await client.chat.completions.create(request);
      expect(choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: NOW } });
    }
  });

  test('parallel_tool_calls false keeps the first', async () => {
    const { client } = api(saying(`${NOW}\n${WEATHER}`));
    const { choices } = await client.chat.completions.create({ ...asked, parallel_tool_calls: false });
    expect(choices[0]?.message.tool_calls).toMatchObject([{ function: { name: 'now' } }]);
    const streamed = await client.chat.completions.stream({ ...asked, parallel_tool_calls: false }).finalMessage();
    expect(streamed.tool_calls).toMatchObject([{ function: { name: 'now' } }]);
  });

  test("answers go back as clients have them; templates do not see what clients' helpers added", async () => {
    const tokenizerConfig = { ...Object(PICO_FILES.tokenizerConfig), chat_template: '{{ messages | tojson }}' };
    const tokenizer = loadChatTokenizer({ ...PICO_FILES, tokenizerConfig });
    const { backend, client } = api(saying('So be it.'), {
      tokenizer,
      parsers: { toolCalls: 'hermes', reasoning: null },
    });
    const call = { type: 'function' as const, id: 'a', function: { name: 'now', arguments: '{"zone": 1}' } };
    const plain = { role: 'assistant' as const, content: 'Let me see.', tool_calls: [call] };
    const helped = {
      ...{ ...plain, refusal: null, annotations: [], parsed: { text: 'Let me see.' } },
      tool_calls: [{ ...call, index: 0, function: { ...call.function, parsed_arguments: { zone: 1 } } }],
    };
    const result = { role: 'tool' as const, tool_call_id: 'a', content: '12:00' };
    for (const answer of [plain, helped])
      await client.chat.completions.create({ ...asked, messages: [...base.messages, answer, result] });
    const [first, second] = backend.requests.map(promptText);
    expect(first).toContain('{"name": "now", "arguments": {"zone": 1}}');
    expect(second).toBe(first);
  });

  test('each of n choices has its own', async () => {
    const texts = [WEATHER, 'No need.', `${NOW}\n${NOW}`];
    const script = {
      tokens: (_: GenerateRequest, choice: number) => [...pico.encode(texts[choice] ?? '', false), EOS],
    };
    const { client } = api(script);
    const whole = await client.chat.completions.create({ ...asked, n: 3 });
    const streamed = await client.chat.completions.stream({ ...asked, n: 3 }).finalChatCompletion();
    for (const { choices } of [whole, streamed]) {
      expect(choices.map((choice) => choice.finish_reason)).toEqual(['tool_calls', 'stop', 'tool_calls']);
      expect(choices.map((choice) => choice.message.tool_calls?.length ?? 0)).toEqual([1, 0, 2]);
      expect(choices[1]?.message.content).toBe('No need.');
    }
  });

  test('logprobs are those of all tokens, marks too', async () => {
    const { client } = api(saying(NOW));
    const said = pico.encode(NOW, false).length + 1;
    const whole = await client.chat.completions.create({ ...asked, logprobs: true });
    expect(whole.choices[0]?.logprobs?.content).toHaveLength(said);
    let streamed = 0;
    for await (const chunk of await client.chat.completions.create({ ...asked, logprobs: true, stream: true }))
      streamed += chunk.choices[0]?.logprobs?.content?.length ?? 0;
    expect(streamed).toBe(said);
  });

  test('marks that are special tokens are seen, others stay hidden', async () => {
    const added = TokenizerJson.parse(PICO_FILES.tokenizerJson).added_tokens;
    const tokenizerJson = {
      ...Object(PICO_FILES.tokenizerJson),
      added_tokens: added.map((each) => ({ ...each, special: true })),
    };
    const tokenizer = loadChatTokenizer({ ...PICO_FILES, tokenizerJson });
    const [start] = tokenizer.tokenIds(['<|im_start|>']);
    const { client } = api({ tokens: () => [start!, ...pico.encode(NOW, false), EOS] }, { tokenizer });
    const { choices } = await client.chat.completions.create(asked);
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { content: null, tool_calls: [{ function: { name: 'now' } }] },
    });
  });

  test('a model whose calls nobody knows refuses tools, unless it may not call or they stay text', async () => {
    const { client } = api(saying(NOW), { parsers: { toolCalls: null, reasoning: null } });
    await expect(client.chat.completions.create(asked)).rejects.toMatchObject({ status: 400, param: 'tools' });
    const none = await client.chat.completions.create({ ...asked, tool_choice: 'none' });
    expect(none.choices[0]?.message.content).toBe(NOW);
    const raw = api(saying(NOW), { parsers: { toolCalls: 'none', reasoning: null } });
    expect((await raw.client.chat.completions.create(asked)).choices[0]?.message.content).toBe(NOW);
  });
});

describe('reasoning', () => {
  const text = '<think>\n2 + 2 is 4.\n</think>\n\nIt is 4.';

  test('is split from the content, whole and streamed, and counted', async () => {
    const { client } = api(saying(text));
    const whole = await client.chat.completions.create(base);
    expect(whole.choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: 'It is 4.', reasoning_content: '2 + 2 is 4.' },
    });
    const inside = pico.encode('\n2 + 2 is 4.\n', false).length;
    expect(whole.usage?.completion_tokens_details).toEqual({ reasoning_tokens: inside });
    let content = '';
    let reasoning = '';
    let usage: OpenAI.CompletionUsage | null | undefined;
    const request = { ...base, stream: true as const, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(request)) {
      const delta = chunk.choices[0]?.delta as { content?: string; reasoning_content?: string } | undefined;
      content += delta?.content ?? '';
      reasoning += delta?.reasoning_content ?? '';
      usage = chunk.usage;
    }
    expect([reasoning, content]).toEqual(['2 + 2 is 4.', 'It is 4.']);
    expect(usage?.completion_tokens_details).toEqual({ reasoning_tokens: inside });
  });

  test('left out by include_reasoning false', async () => {
    const { client } = api(saying(text));
    const request = { ...base, include_reasoning: false };
    const { choices } = await client.chat.completions.create(request);
    expect(choices[0]?.message).toEqual({ role: 'assistant', content: 'It is 4.', refusal: null });
  });

  test('begun by the prompt', async () => {
    const { client } = api(saying('2 + 2 is 4.\n</think>\n\nIt is 4.'));
    const request = { ...base, chat_template_kwargs: { enable_thinking: true } };
    const { choices, usage } = await client.chat.completions.create(request);
    expect(choices[0]?.message).toMatchObject({ content: 'It is 4.', reasoning_content: '2 + 2 is 4.' });
    expect(usage?.completion_tokens_details?.reasoning_tokens).toBe(pico.encode('2 + 2 is 4.\n', false).length);
  });

  test.each([
    ['<think>\n2 + 2', ' is 4.\n</think>\n\nIt is 4.', 'It is 4.', 'is 4.'],
    ['It', ' is 4.', ' is 4.', undefined],
  ])('continued after %j', async (content, said, answer, reasoning) => {
    const { client } = api(saying(said));
    const request = { ...base, continue_final_message: true };
    const messages = [...base.messages, { role: 'assistant' as const, content }];
    const { choices } = await client.chat.completions.create({ ...request, messages });
    const { message } = choices[0]!;
    expect([message.content, (message as Message).reasoning_content]).toEqual([answer, reasoning]);
  });

  test('cut in the middle: no content', async () => {
    const { client } = api(saying(text));
    const { choices } = await client.chat.completions.create({ ...base, max_completion_tokens: 6 });
    expect(choices[0]).toMatchObject({ finish_reason: 'length', message: { content: null } });
    const { reasoning_content: reasoning } = choices[0]!.message as Message;
    expect(reasoning).not.toBe('');
    expect('2 + 2 is 4.').toContain(reasoning);
  });

  test('then a call; a call inside of reasoning is reasoning', async () => {
    const { client } = api(saying(`<think>\nI could ${NOW}\n</think>\n\n${WEATHER}`));
    const { choices } = await client.chat.completions.create(asked);
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        content: null,
        reasoning_content: `I could ${NOW}`,
        tool_calls: [{ function: { name: 'get_weather' } }],
      },
    });
  });

  test.each(['reasoning_content', 'reasoning'])('sent back as %s, templates have it', async (field) => {
    const template = '{% for m in messages %}{{ m.role }}:{{ m.reasoning_content }}{% endfor %}';
    const { client, backend } = api(saying('x'), {
      tokenizer: loadChatTokenizer({ ...PICO_FILES, chatTemplate: template }),
    });
    const answer = { role: 'assistant' as const, content: 'It is 4.', [field]: 'two and two' };
    await client.chat.completions.create({ ...base, messages: [answer, ...base.messages] });
    expect(promptText(backend.requests[0])).toBe('assistant:two and twouser:');
  });

  test('without a parser it stays in the content', async () => {
    const { client } = api(saying(text), { parsers: { toolCalls: 'hermes', reasoning: null } });
    const { choices, usage } = await client.chat.completions.create(base);
    expect(choices[0]?.message.content).toBe(text);
    expect(usage).not.toHaveProperty('completion_tokens_details');
  });
});
