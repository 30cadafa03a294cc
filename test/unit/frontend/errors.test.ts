import { APIError, NotFoundError } from 'openai';
import { describe, expect, test } from 'vitest';
import { ApiError, type ErrorBody, unavailable } from '../../../src/frontend/errors.ts';
import type { TokensFrame } from '../../../src/protocol/generate.ts';
import { EOS, pico, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const model = 'quire-pico';
const chat = { model, messages: [{ role: 'user' as const, content: 'Hi' }] };
const completion = { model, prompt: [5] };
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;
const api = () => testApi([servedModel(new ScriptedBackend(saying('Hello there.')))]);

describe('models', () => {
  const { client } = testApi([
    servedModel(new ScriptedBackend(saying('x'))),
    servedModel(new ScriptedBackend(saying('x')), { name: 'Qwen/Qwen3-0.6B', maxModelLen: () => 512 }),
  ]);

  test('are listed', async () => {
    const models = [];
    for await (const each of client.models.list()) models.push(each);
    expect(models.map((each) => [each.id, each.object, each.created, each.owned_by])).toEqual([
      ['quire-pico', 'model', 1_700_000_000, 'quire'],
      ['Qwen/Qwen3-0.6B', 'model', 1_700_000_000, 'quire'],
    ]);
  });

  test('can be asked for, also with a slash in the name', async () => {
    expect(await client.models.retrieve('Qwen/Qwen3-0.6B')).toMatchObject({
      id: 'Qwen/Qwen3-0.6B',
      max_model_len: 512,
    });
  });

  test('an unknown one is a 404 that names those there are', async () => {
    const asked = client.chat.completions.create({ ...chat, model: 'gpt-5' });
    await expect(asked).rejects.toBeInstanceOf(NotFoundError);
    await expect(asked).rejects.toMatchObject({ code: 'model_not_found', param: 'model', type: 'not_found_error' });
    await expect(client.models.retrieve('gpt-5')).rejects.toThrow("'quire-pico', 'Qwen/Qwen3-0.6B'");
  });
});

describe('bodies', () => {
  const send = (init: RequestInit, maxBodyBytes?: number) =>
    testApi([servedModel(new ScriptedBackend(saying('x')))], maxBodyBytes === undefined ? {} : { maxBodyBytes }).fetch(
      '/v1/completions',
      { method: 'POST', headers: { 'content-type': 'application/json' }, ...init },
    );

  test.each([[{ 'content-type': 'text/plain' }], [{}]])('415: content type %o', async (headers) => {
    const response = await send({ headers, body: new TextEncoder().encode(JSON.stringify(completion)) });
    expect(response.status).toBe(415);
    expect((await errorOf(response)).message).toContain('application/json');
  });

  test('a charset after the type is fine', async () => {
    const headers = { 'content-type': 'Application/JSON; charset=utf-8' };
    expect((await send({ headers, body: JSON.stringify(completion) })).status).toBe(200);
  });

  test('413 by the announced length, nothing read', async () => {
    const headers = { 'content-type': 'application/json', 'content-length': '101' };
    const response = await send({ headers, body: JSON.stringify(completion) }, 100);
    expect(response.status).toBe(413);
    expect((await errorOf(response)).message).toContain('100 bytes');
  });

  test('413 while reading: an endless body is left, not taken in', async () => {
    let given = 0;
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        given += 100;
        controller.enqueue(new Uint8Array(100).fill(0x20));
      },
      cancel() {
        cancelled = true;
      },
    });
    const response = await send({ body, duplex: 'half' } as RequestInit, 1000);
    expect(response.status).toBe(413);
    expect(cancelled).toBe(true);
    expect(given).toBeLessThan(1500);
  });

  test.each([
    ['{"model":', 'valid JSON'],
    [new Uint8Array([0x22, 0xff, 0x22]), 'valid JSON'],
    ['[]', 'JSON object'],
    ['null', 'JSON object'],
  ])('400: %s', async (body, words) => {
    const response = await send({ body });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toContain(words);
  });
});

describe('fields', () => {
  test.each([
    [{ messages: undefined }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content'],
    [{ messages: [{ role: 'user', content: 5 }] }, 'messages[0].content'],
    [{ messages: [{ role: 'robot', content: 'x' }] }, 'messages[0].role'],
    [{ messages: [{ role: 'user', content: 'x', extra: 1 }] }, 'messages[0].extra'],
    [{ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] }, 'messages[0].content[0].type'],
    [
      { messages: [{ role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: '{' } }] }] },
      'messages[0].tool_calls[0].function.arguments',
    ],
    [{ made_up: 1 }, 'made_up'],
    [{ temperature: -0.1 }, 'temperature'],
    [{ temperature: 'hot' }, 'temperature'],
    [{ top_p: 0 }, 'top_p'],
    [{ top_k: -2 }, 'top_k'],
    [{ min_p: 2 }, 'min_p'],
    [{ repetition_penalty: 0 }, 'repetition_penalty'],
    [{ presence_penalty: 3 }, 'presence_penalty'],
    [{ n: 0 }, 'n'],
    [{ n: 129 }, 'n'],
    [{ seed: 0.5 }, 'seed'],
    [{ seed: 2 ** 65 }, 'seed'],
    [{ stop: '' }, 'stop'],
    [{ stop: 5 }, 'stop'],
    [{ stop: ['a', 5] }, 'stop[1]'],
    [{ stop: Array(17).fill('x') }, 'stop'],
    [{ stop: '\ud83c' }, 'stop'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: 5, max_completion_tokens: 6 }, 'max_tokens'],
    [{ min_tokens: 9, max_tokens: 8 }, 'min_tokens'],
    [{ logit_bias: { word: 1 } }, 'logit_bias.word'],
    [{ logit_bias: { 5: 101 } }, 'logit_bias.5'],
    [{ logit_bias: { 4096: 1 } }, 'logit_bias'],
    [{ stop_token_ids: [4096] }, 'stop_token_ids'],
    [{ stop_token_ids: Array.from({ length: 63 }, (_, id) => id + 10) }, 'stop_token_ids'],
    [{ top_logprobs: 2 }, 'top_logprobs'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ prompt_logprobs: -1 }, 'prompt_logprobs'],
    [{ prompt_logprobs: 1, stream: true }, 'prompt_logprobs'],
    [{ stream_options: { include_usage: true } }, 'stream_options'],
    [{ stream: true, stream_options: { other: true } }, 'stream_options.other'],
    [{ stream: true, stream_options: { include_obfuscation: true } }, 'stream_options.include_obfuscation'],
    [{ stream: true, stream_options: { continuous_usage_stats: true } }, 'stream_options.continuous_usage_stats'],
    [{ truncate_prompt_tokens: 0 }, 'truncate_prompt_tokens'],
    [{ continue_final_message: true, add_generation_prompt: true }, 'continue_final_message'],
    [{ continue_final_message: true, messages: [{ role: 'user', content: ' ' }] }, 'continue_final_message'],
    [{ echo: true }, 'echo'],
    [{ bad_words: ['x'] }, 'bad_words'],
    [{ priority: 1 }, 'priority'],
    [{ priority: 0.5 }, 'priority'],
    [{ use_beam_search: true }, 'use_beam_search'],
    [{ functions: [] }, 'functions'],
    [{ request_id: 'x' }, 'request_id'],
    [{ response_format: { type: 'grammar' } }, 'response_format.type'],
    [{ response_format: { type: 'json_schema', json_schema: { name: 'a', schema: { not: {} } } } }, 'response_format'],
    [{ response_format: { type: 'json_object' }, guided_regex: 'a' }, 'guided_regex'],
    [{ structured_outputs: { regex: '(?=a)' } }, 'structured_outputs.regex'],
    [{ structured_outputs: { json: '{' } }, 'structured_outputs.json'],
    [{ structured_outputs: { structural_tag: 'x' } }, 'structured_outputs.structural_tag'],
    [{ guided_choice: [] }, 'guided_choice'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ store: true }, 'store'],
    [{ chat_template_kwargs: { messages: [] } }, 'chat_template_kwargs'],
  ])('/v1/chat/completions refuses %o', async (change, param) => {
    const response = await api().post('/v1/chat/completions', { ...chat, ...change });
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ type: 'invalid_request_error', param });
    expect(error.message).toContain(param.split('.')[0]);
  });

  test.each([
    [{ prompt: undefined }, 'prompt'],
    [{ prompt: '' }, 'prompt'],
    [{ prompt: [] }, 'prompt'],
    [{ prompt: 5 }, 'prompt'],
    [{ prompt: [[5], []] }, 'prompt[1]'],
    [{ prompt: [5, 'x'] }, 'prompt[1]'],
    [{ prompt: [4096] }, 'prompt'],
    [{ prompt: Array(65).fill('x'), n: 2 }, 'n'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ best_of: 2 }, 'best_of'],
    [{ best_of: 1, n: 2 }, 'best_of'],
    [{ allowed_token_ids: [5] }, 'allowed_token_ids'],
    [{ suffix: 'x' }, 'suffix'],
    [{ logprobs: 21 }, 'logprobs'],
    [{ logprobs: true }, 'logprobs'],
    [{ messages: [] }, 'messages'],
  ])('/v1/completions refuses %o', async (change, param) => {
    const response = await api().post('/v1/completions', { ...completion, ...change });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ type: 'invalid_request_error', param });
  });

  test('a field that others know is refused with the reason', async () => {
    const response = await api().post('/v1/chat/completions', { ...chat, request_id: 'mine' });
    expect((await errorOf(response)).message).toBe(
      "'request_id' is not supported: name a request with the header x-request-id. Leave it out.",
    );
  });

  test("prompt_embeds: vLLM's exact words", async () => {
    const response = await api().post('/v1/completions', { model, prompt_embeds: 'AAAA' });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toBe(
      'ValueError: You must set --enable-prompt-embeds to input prompt_embeds',
    );
  });

  test('harmless fields and nulls are taken', async () => {
    const response = await api().post('/v1/chat/completions', {
      ...chat,
      user: 'me',
      metadata: { a: 'b' },
      store: false,
      service_tier: 'auto',
      safety_identifier: 'x',
      prompt_cache_key: 'y',
      parallel_tool_calls: true,
      modalities: ['text'],
      response_format: { type: 'text' },
      stop: null,
      temperature: null,
      tools: null,
      logit_bias: null,
      stream_options: null,
      bad_words: null,
      use_beam_search: false,
      length_penalty: 1,
      echo: false,
      spaces_between_special_tokens: true,
    });
    expect(response.status).toBe(200);
  });
});

describe('length', () => {
  const small = () => testApi([servedModel(new ScriptedBackend(saying('x')), { maxModelLen: () => 10 })]);

  test('prompt and output together: 400 with both numbers', async () => {
    const response = await small().post('/v1/completions', { model, prompt: [1, 2, 3, 4], max_tokens: 7 });
    expect(response.status).toBe(400);
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'context_length_exceeded', param: 'max_tokens' });
    expect(error.message).toMatch(/7\D.*\b10 tokens\b.*\bhas 4\b.*7 > 10 - 4/);
  });

  test('exactly full is fine', async () => {
    expect((await small().post('/v1/completions', { model, prompt: [1, 2, 3, 4], max_tokens: 6 })).status).toBe(200);
  });

  test('the prompt alone: 400 with both numbers', async () => {
    const response = await small().post('/v1/completions', { model, prompt: Array(10).fill(5) });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toMatch(/\b10 tokens\b.*\bhas 10\b/);
  });

  test('a text that can never fit is refused before it is tokenized', async () => {
    const text = 'a'.repeat(11 * pico.longestPiece);
    const response = await small().post('/v1/completions', { model, prompt: text });
    expect(response.status).toBe(400);
    expect((await errorOf(response)).message).toContain('at least 11');
  });
});

describe('the backend fails', () => {
  const frame = (change: Partial<TokensFrame>): TokensFrame => ({
    request: 'r',
    choice: 0,
    offset: 0,
    tokens: [40],
    ...change,
  });
  const giving = (...frames: (TokensFrame | Error)[]) =>
    testApi([
      servedModel({
        async *generate() {
          for (const each of frames) {
            if (each instanceof Error) throw each;
            yield each;
          }
        },
      }),
    ]);
  const none = unavailable('No node is ready. Open the page to add one.', 'no_node', 7);

  test.each([false, true])('no node ready (stream: %s): 503, when to try again, what to do', async (stream) => {
    const response = await giving(none).post('/v1/chat/completions', { ...chat, stream });
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('7');
    expect(await errorOf(response)).toEqual({
      message: 'No node is ready. Open the page to add one.',
      type: 'service_unavailable',
      param: null,
      code: 'no_node',
    });
  });

  test('an unexpected error is a 500 that tells nothing of the inside, and is logged', async () => {
    const { post, internalErrors } = giving(new Error('secret path /x'));
    const response = await post('/v1/chat/completions', chat);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret');
    expect(internalErrors.map(String)).toEqual(['Error: secret path /x']);
  });

  test('after streaming began: an error event, then the end; the client throws', async () => {
    const lost = new ApiError(503, 'service_unavailable', 'The node left.', { code: 'node_lost' });
    const { client, post, internalErrors } = giving(frame({}), lost);
    const text = await (await post('/v1/chat/completions', { ...chat, stream: true })).text();
    const last = text.trimEnd().split('\n\n').at(-1) ?? '';
    expect(JSON.parse(last.slice(6))).toEqual(lost.body());
    expect(text).not.toContain('[DONE]');
    const read = async () => {
      let content = '';
      for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
        content += chunk.choices[0]?.delta.content ?? '';
      }
      return content;
    };
    await expect(read()).rejects.toBeInstanceOf(APIError);
    await expect(read()).rejects.toThrow('The node left.');
    expect(internalErrors).toEqual([]);
  });

  test.each([
    ['a hole', [frame({}), frame({ offset: 2, finish: 'length' })], 500],
    ['a token twice', [frame({}), frame({ offset: 0, finish: 'length' })], 500],
    ['an end before the end', [frame({})], 500],
    ['a choice that nobody asked for', [frame({ choice: 1 })], 500],
    ['a cancelled choice', [frame({ finish: 'cancelled' })], 503],
  ])('%s is never shown as an answer', async (_, frames, status) => {
    expect((await giving(...frames).post('/v1/chat/completions', chat)).status).toBe(status);
  });

  test('frames after the end of a choice are not read', async () => {
    const response = await giving(
      frame({ tokens: [EOS], finish: 'stop', stopId: EOS }),
      new Error('never reached'),
    ).post('/v1/chat/completions', chat);
    expect(response.status).toBe(200);
  });
});

describe('routes', () => {
  test.each([
    ['POST', '/v1/images/generations'],
    ['GET', '/v1/'],
  ])('%s %s is a 404 in the same shape', async (method, path) => {
    const response = await api().fetch(path, { method });
    expect(response.status).toBe(404);
    const error = await errorOf(response);
    expect(error).toMatchObject({ type: 'not_found_error', param: null, code: 'not_found' });
    expect(error.message).toContain(`${method} ${path}`);
  });

  test.each([
    ['GET', '/v1/chat/completions', 'POST'],
    ['PUT', '/v1/completions', 'POST'],
    ['DELETE', '/v1/models/quire-pico', 'GET, HEAD'],
    ['POST', '/v1/models', 'GET, HEAD'],
    ['GET', '/v1/requests/x', 'DELETE'],
    ['GET', '/tokenize', 'POST'],
  ])('%s %s is a 405 that says what is taken', async (method, path, allow) => {
    const response = await api().fetch(path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allow);
    expect(await errorOf(response)).toMatchObject({ type: 'invalid_request_error', code: 'method_not_allowed' });
  });
});
