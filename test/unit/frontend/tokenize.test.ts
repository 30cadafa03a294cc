import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { VERSION } from '../../../src/protocol/version.ts';
import { pico, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const api = () => testApi([servedModel(new ScriptedBackend(saying('x')))]);
const ask = async (path: string, body: object) => {
  const response = await api().post(path, body);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

describe('/tokenize', () => {
  test('a text, with the special tokens that a completion has, and without', async () => {
    const ids = pico.encode('Hello there', true);
    expect((await ask('/tokenize', { model: 'quire-pico', prompt: 'Hello there' })).body).toEqual({
      count: ids.length,
      max_model_len: 2048,
      tokens: ids,
      token_strs: null,
    });
    const { body } = await ask('/tokenize', {
      prompt: 'Hello there',
      add_special_tokens: false,
      return_token_strs: true,
    });
    expect(body.tokens).toEqual(pico.encode('Hello there', false));
    // Byte-level BPE writes a space as U+0120.
    expect((body.token_strs as string[]).join('').replaceAll('\u0120', ' ')).toBe('Hello there');
  });

  test('messages give the tokens that a chat of them sends to a node', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend)]);
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    await client.chat.completions.create({ model: 'quire-pico', messages });
    expect((await ask('/tokenize', { messages })).body.tokens).toEqual(backend.requests[0]?.prompt);
  });

  test.each([
    [{}, 400, 'prompt'],
    [{ prompt: 'x', messages: [{ role: 'user', content: 'x' }] }, 400, 'prompt'],
    [{ prompt: 'x', made_up: 1 }, 400, 'made_up'],
    [{ prompt: 'x', model: 'other' }, 404, 'model'],
    [{ messages: [{ role: 'user', content: 'x' }], chat_template: 'x' }, 400, 'chat_template'],
  ])('refuses %o', async (body, status, param) => {
    expect(await ask('/tokenize', body)).toMatchObject({ status, body: { error: { param } } });
  });
});

test('/tokenize takes a text of 262,144 characters and none that is longer', async () => {
  const { post } = testApi([servedModel(new ScriptedBackend(saying('x')))]);
  const statusOf = async (characters: number) =>
    (await post('/tokenize', { prompt: 'word '.repeat(characters).slice(0, characters) })).status;
  expect(await statusOf(1 << 18)).toBe(200);
  expect(await statusOf((1 << 18) + 1)).toBe(400);
});

describe('/detokenize', () => {
  test('gives the text back, special tokens too', async () => {
    const text = '<|im_start|>user Gr\u00fc\u00dfe, \u{1f600}';
    expect((await ask('/detokenize', { tokens: pico.encode(text, false) })).body).toEqual({ prompt: text });
  });

  test('refuses ids that the model does not have', async () => {
    expect(await ask('/detokenize', { tokens: [4096] })).toMatchObject({
      status: 400,
      body: { error: { param: 'tokens' } },
    });
  });
});

test('/version is that of the package', async () => {
  const file = z.object({ version: z.string() }).parse(JSON.parse(readFileSync('package.json', 'utf8')));
  expect(VERSION).toBe(file.version);
  expect(await (await api().fetch('/version')).json()).toEqual({ version: file.version });
});
