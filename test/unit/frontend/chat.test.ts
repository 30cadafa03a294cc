import { describe, expect, test } from 'vitest';
import { EOS, pico, reference, ScriptedBackend, SEED, saying, servedModel, testApi } from './support.ts';

const user = (content: string) => [{ role: 'user' as const, content }];
const base = { model: 'quire-pico', messages: user('Hi') };

interface AnyMessage {
  readonly content: string | null;
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly { readonly function: { readonly name: string; readonly arguments: string } }[];
}

/** The answer as quire-pico wrote it; its prompt had begun the reasoning. */
function asWritten({ content, reasoning_content: reasoning, tool_calls: calls = [] }: AnyMessage): string {
  const written = calls.map(
    ({ function: { name, arguments: args } }) => `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`,
  );
  return `${reasoning === undefined ? '' : `${reasoning}\n</think>\n\n`}${content ?? ''}${written.join('')}`;
}

describe('/v1/chat/completions, by the official client', () => {
  test.each(
    reference.flatMap((entry) => (entry.messages === undefined ? [] : [[entry.text.slice(0, 40), entry] as const])),
  )('the prompt that the engine gets and the text that the client gets: "%s"', async (_, entry) => {
    const backend = new ScriptedBackend({ tokens: () => entry.output_ids });
    const { post } = testApi([servedModel(backend)]);
    const response = await post('/v1/chat/completions', {
      model: 'quire-pico',
      messages: entry.messages,
      ...(entry.tools === undefined ? {} : { tools: entry.tools }),
      ...(entry.enable_thinking === undefined
        ? {}
        : { chat_template_kwargs: { enable_thinking: entry.enable_thinking } }),
    });
    const answer = (await response.json()) as { choices: { message: AnyMessage }[]; usage: unknown };
    expect(backend.requests[0]?.prompt).toEqual(entry.input_ids);
    expect(asWritten(answer.choices[0]!.message)).toBe(entry.text.replace('<|im_end|>', ''));
    expect(answer.usage).toMatchObject({
      prompt_tokens: entry.input_ids.length,
      completion_tokens: entry.output_ids.length,
    });
  });

  test('answers whole', async () => {
    const backend = new ScriptedBackend({ ...saying('Hello there.'), cached: 3 });
    const { client } = testApi([servedModel(backend)]);
    const answer = await client.chat.completions.create(base);
    expect(answer.object).toBe('chat.completion');
    expect(answer.id).toMatch(/^chatcmpl-/);
    expect(answer.created).toBe(1_700_000_000);
    expect(answer.choices).toEqual([
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello there.', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
        stop_reason: null,
      },
    ]);
    const prompt = backend.requests[0]?.prompt.length ?? 0;
    const completion = pico.encode('Hello there.', false).length + 1;
    expect(answer.usage).toEqual({
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      prompt_tokens_details: { cached_tokens: 3 },
      completion_tokens_details: { reasoning_tokens: 0 },
    });
  });

  test('streams', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('Grüße, 世界 🎉!')))]);
    const stream = await client.chat.completions.create({
      ...base,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    const chunks = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe('Grüße, 世界 🎉!');
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe('stop');
    expect(chunks.at(-1)?.choices).toEqual([]);
    expect(chunks.at(-1)?.usage?.completion_tokens).toBe(pico.encode('Grüße, 世界 🎉!', false).length + 1);
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
  });

  test('the stream on the wire: one event a chunk, [DONE] last; no usage unless asked for', async () => {
    const { post } = testApi([servedModel(new ScriptedBackend(saying('Hi.')))]);
    const response = await post('/v1/chat/completions', { ...base, stream: true });
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const events = (await response.text()).split('\n\n');
    expect(events.pop()).toBe('');
    expect(events.pop()).toBe('data: [DONE]');
    for (const event of events) {
      expect(event).toMatch(/^data: \{[^\n]+\}$/);
      expect(JSON.parse(event.slice(6))).not.toHaveProperty('usage');
    }
  });

  test('n choices: one request to the engine, the prompt counted once, choices in order', async () => {
    const words = ['one', 'two two', 'three'];
    const backend = new ScriptedBackend({
      tokens: (_, choice) => [...pico.encode(words[choice] ?? '', false), EOS],
      cached: 4,
    });
    const { client } = testApi([servedModel(backend)]);
    const answer = await client.chat.completions.create({ ...base, n: 3 });
    expect(answer.choices.map((choice) => [choice.index, choice.message.content])).toEqual([...words.entries()]);
    expect(backend.requests).toHaveLength(1);
    expect(backend.requests[0]?.choices.map((choice) => choice.choice)).toEqual([0, 1, 2]);
    expect(answer.usage?.prompt_tokens).toBe(backend.requests[0]?.prompt.length);
    expect(answer.usage?.prompt_tokens_details?.cached_tokens).toBe(4);

    const texts = ['', '', ''];
    const roles = [0, 0, 0];
    for await (const chunk of await client.chat.completions.create({ ...base, n: 3, stream: true })) {
      for (const { index, delta } of chunk.choices) {
        texts[index] += delta.content ?? '';
        if (delta.role !== undefined) roles[index] = (roles[index] ?? 0) + 1;
      }
    }
    expect(texts).toEqual(words);
    expect(roles).toEqual([1, 1, 1]);
  });

  test('sampling: the request wins over generation_config, and that over the defaults', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend)]);
    await client.chat.completions.create(base);
    const prompt = backend.requests[0]?.prompt.length ?? 0;
    expect(backend.requests[0]?.sampling).toEqual({
      temperature: 0.7,
      topP: 0.95,
      topK: 40,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      logitBias: [],
      seed: SEED,
      minTokens: 0,
      maxTokens: 2048 - prompt,
      stopIds: [2, 0],
      logprobs: null,
      promptLogprobs: null,
    });
    const vllm = {
      top_k: -1,
      min_p: 0.1,
      repetition_penalty: 1.1,
      min_tokens: 2,
      ignore_eos: true,
      stop_token_ids: [7, 9],
      cache_salt: 'mine',
    };
    await client.chat.completions.create({
      ...base,
      ...vllm,
      temperature: 0,
      top_p: 0.5,
      presence_penalty: 1,
      frequency_penalty: -1,
      logit_bias: { '5': -100, '17': 3.5 },
      seed: -2,
      max_completion_tokens: 12,
    });
    expect(backend.requests[1]?.sampling).toEqual({
      temperature: 0,
      topP: 0.5,
      topK: 0,
      minP: 0.1,
      repetitionPenalty: 1.1,
      presencePenalty: 1,
      frequencyPenalty: -1,
      logitBias: [
        [5, -100],
        [17, 3.5],
      ],
      seed: [0xfffffffe, 0xffffffff],
      minTokens: 2,
      maxTokens: 12,
      stopIds: [7, 9],
      logprobs: null,
      promptLogprobs: null,
    });
    expect(backend.requests[1]?.cacheSalt).toBe('mine');
  });

  test('generation_config may bound the answer (max_new_tokens)', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend, { generationDefaults: { maxTokens: 5 } })]);
    await client.chat.completions.create(base);
    expect(backend.requests[0]?.sampling).toMatchObject({ maxTokens: 5, temperature: 1, topP: 1, topK: 0 });
  });

  test('a stop string across tokens: cut, told, computing ended, usage up to it', async () => {
    const said = pico.encode('one two three four five', false);
    const stop = 'o thre';
    const backend = new ScriptedBackend({ tokens: () => [...said, EOS] });
    const { client } = testApi([servedModel(backend)]);
    const answer = await client.chat.completions.create({ ...base, stop: ['never', stop] });
    expect(answer.choices[0]).toMatchObject({
      message: { content: 'one tw' },
      finish_reason: 'stop',
      stop_reason: stop,
    });
    expect(backend.signals[0]?.aborted).toBe(true);
    const needed = said.findIndex((_, at) =>
      said
        .slice(0, at + 1)
        .map((id) => new TextDecoder().decode(pico.piece(id).bytes))
        .join('')
        .includes(stop),
    );
    expect(needed).toBeGreaterThan(1);
    expect(answer.usage?.completion_tokens).toBe(needed + 1);
    expect(backend.framesGiven).toBe(needed + 1);
    const included = { ...base, stop, include_stop_str_in_output: true };
    const whole = await client.chat.completions.create(included);
    expect(whole.choices[0]?.message.content).toBe('one two thre');
  });

  test('a stop string in the middle of a frame: nothing after its token counts', async () => {
    const said = pico.encode('one two. three four five', false);
    const { client } = testApi([servedModel(new ScriptedBackend({ tokens: () => [...said, EOS], frame: 100 }))]);
    const request = { ...base, stop: '.', return_token_ids: true, logprobs: true };
    const answer = await client.chat.completions.create(request);
    const upToStop = pico.encode('one two.', false);
    expect(answer.choices[0]).toMatchObject({ message: { content: 'one two' }, token_ids: upToStop });
    expect(answer.choices[0]?.logprobs?.content).toHaveLength(upToStop.length);
    expect(answer.usage?.completion_tokens).toBe(upToStop.length);
  });

  test('of n choices one that met its stop string waits for the others; then computing ends', async () => {
    const words = ['a STOP b c d e f g h', 'x y z'];
    const backend = new ScriptedBackend({ tokens: (_, choice) => [...pico.encode(words[choice] ?? '', false), EOS] });
    const { client } = testApi([servedModel(backend)]);
    const answer = await client.chat.completions.create({ ...base, n: 2, stop: 'STOP' });
    expect(answer.choices.map((choice) => choice.message.content)).toEqual(['a ', 'x y z']);
  });

  test('text held back for a stop string comes at the end', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('almost ##')))]);
    const answer = await client.chat.completions.create({ ...base, stop: '###' });
    expect(answer.choices[0]?.message.content).toBe('almost ##');
  });

  test('min_tokens holds for stop strings as well', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('a.b.c.d')))]);
    const whole = pico.encode('a.b.', false).length;
    const request = { ...base, stop: '.', min_tokens: whole };
    const answer = await client.chat.completions.create(request);
    expect(answer.choices[0]?.message.content).toBe('a.b.c');
  });

  test('stop_token_ids: told as the reason, text not shown', async () => {
    const [first, second] = pico.encode('Hello there', false) as [number, number];
    const backend = new ScriptedBackend({ tokens: () => [first, second, EOS] });
    const { client } = testApi([servedModel(backend)]);
    const request = { ...base, stop_token_ids: [second] };
    const answer = await client.chat.completions.create(request);
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'stop', stop_reason: second });
    expect(answer.choices[0]?.message.content).toBe(new TextDecoder().decode(pico.piece(first).bytes));
    expect(answer.usage?.completion_tokens).toBe(2);
  });

  test('max_tokens: finish_reason length', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('one two three four')))]);
    const answer = await client.chat.completions.create({ ...base, max_tokens: 2 });
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'length', stop_reason: null });
    expect(answer.usage?.completion_tokens).toBe(2);
  });

  test('skip_special_tokens false shows them', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('Hi')))]);
    const request = { ...base, skip_special_tokens: false, include_stop_str_in_output: true };
    const answer = await client.chat.completions.create(request);
    expect(answer.choices[0]?.message.content).toBe('Hi<|im_end|>');
  });

  test("vLLM's return_token_ids, whole and streamed", async () => {
    const backend = new ScriptedBackend(saying('Hello.'));
    const { client } = testApi([servedModel(backend)]);
    const request = { ...base, return_token_ids: true };
    const said = [...pico.encode('Hello.', false), EOS];
    const answer = await client.chat.completions.create(request);
    expect(answer).toMatchObject({ prompt_token_ids: backend.requests[0]?.prompt, choices: [{ token_ids: said }] });
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
    expect(chunks[0]).toMatchObject({ prompt_token_ids: backend.requests[1]?.prompt });
    expect(chunks.slice(1).some((chunk) => 'prompt_token_ids' in chunk)).toBe(false);
    const ids = chunks.flatMap((chunk) => (chunk.choices[0] as { token_ids?: number[] }).token_ids ?? []);
    expect(ids).toEqual(said);
  });

  test('messages of all roles, text parts, tool calls sent back, tools left out by tool_choice none', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend)]);
    const tools = [
      { type: 'function' as const, function: { name: 'get_weather', parameters: { type: 'object', properties: {} } } },
    ];
    await client.chat.completions.create({
      model: 'quire-pico',
      tools,
      messages: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Weather' },
            { type: 'text', text: 'in Lima?' },
          ],
        },
        {
          role: 'assistant',
          content: null,
          refusal: null,
          tool_calls: [
            {
              id: 'c1',
              type: 'function',
              function: { name: 'get_weather', arguments: '{"city":"Lima","days":[1,2]}' },
            },
          ],
        },
        { role: 'tool', tool_call_id: 'c1', content: 'Sunny' },
      ],
    });
    const text = (at: number) =>
      (backend.requests[at]?.prompt ?? []).map((id) => new TextDecoder().decode(pico.piece(id).bytes)).join('');
    // The template's `tojson` is Python's: a space after each comma and colon.
    expect(text(0)).toContain('{"type": "function", "function": {"name": "get_weather", "parameters": {');
    expect(text(0)).toContain('<|im_start|>system\nBe brief.');
    expect(text(0)).toContain('<|im_start|>user\nWeather\nin Lima?<|im_end|>');
    expect(text(0)).toContain('{"name": "get_weather", "arguments": {"city": "Lima", "days": [1, 2]}}');
    expect(text(0)).toContain('<tool_response>\nSunny\n</tool_response>');
    await client.chat.completions.create({ ...base, tools, tool_choice: 'none' });
    expect(text(1)).not.toContain('get_weather');
  });
});

describe('continue_final_message', () => {
  const messages = [
    { role: 'user' as const, content: 'Name a colour.' },
    { role: 'assistant' as const, content: 'The colour is' },
  ];

  test("the prompt ends with the last message's text, whatever its end", async () => {
    const backend = new ScriptedBackend(saying(' red.'));
    const { post } = testApi([servedModel(backend)]);
    for (const content of ['The colour is', 'The colour is ']) {
      const change = { messages: [messages[0], { role: 'assistant', content }], continue_final_message: true };
      const response = await post('/v1/chat/completions', { ...base, ...change });
      expect(response.status).toBe(200);
    }
    for (const { prompt } of backend.requests) {
      const text = Buffer.concat(prompt.map((id) => pico.piece(id).bytes)).toString();
      expect(text.trimEnd().endsWith('assistant\nThe colour is')).toBe(true);
    }
  });
});
