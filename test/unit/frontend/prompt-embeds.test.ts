import { describe, expect, test } from 'vitest';
import { NO_ID } from '../../../src/protocol/prompt-embeds.ts';
import { floatBytes } from '../../support/embedding-rows.ts';
import { torchFile } from '../../support/torch-file.ts';
import { pico, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const HIDDEN = 4;
const model = 'quire-pico';
const ramp = (tokens: number) => Array.from({ length: tokens * HIDDEN }, (_, i) => i / 8 - 1);
const encoded = (tokens: number, dtype: 'f32' | 'bf16' = 'f32', width = HIDDEN) => {
  const values = Array.from({ length: tokens * width }, (_, i) => i / 8 - 1);
  return Buffer.from(torchFile({ dtype, shape: [tokens, width], data: floatBytes(values, dtype) })).toString('base64');
};
const enabled = () => {
  const backend = new ScriptedBackend(saying('Hello'));
  const api = testApi([servedModel(backend)], { promptEmbeds: true, maxBodyBytes: 4096 });
  const ask = async (body: object) => {
    const response = await api.post('/v1/completions', { model, max_tokens: 8, ...body });
    return { status: response.status, body: (await response.json()) as Body };
  };
  return { backend, api, ask };
};
interface Body {
  choices: { index: number; text: string; prompt_token_ids?: number[] }[];
  usage: { prompt_tokens: number };
  error: { message: string; param: string | null; code: string | null };
}

test.each([{ prompt_embeds: 'AAAA' }, { prompt_embeds: [], prompt: 'a' }, { prompt: 'a', prompt_embeds: 3 }])(
  'off by default, in the exact words: %j',
  async (fields) => {
    const { post } = testApi([servedModel(new ScriptedBackend(saying('Hello')))]);
    const response = await post('/v1/completions', { model, ...fields });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: {
        message: 'ValueError: You must set --enable-prompt-embeds to input prompt_embeds',
        param: 'prompt_embeds',
      },
    });
  },
);

describe('with --enable-prompt-embeds', () => {
  test.each([undefined, null, ''])('alone, with prompt %j: the rows go down as they came', async (prompt) => {
    const { backend, ask } = enabled();
    const { status, body } = await ask({ prompt_embeds: encoded(3, 'bf16'), prompt, return_token_ids: true });
    expect(status).toBe(200);
    expect(body.choices).toMatchObject([{ index: 0, text: 'Hello', prompt_token_ids: [] }]);
    expect(body.usage.prompt_tokens).toBe(3);
    const [request] = backend.requests;
    expect(request!.prompt).toEqual([NO_ID, NO_ID, NO_ID]);
    expect(request!.embeds!.dtype).toBe('bf16');
    expect(Buffer.from(request!.embeds!.data, 'base64')).toEqual(Buffer.from(floatBytes(ramp(3), 'bf16')));
  });

  test("several beside texts: theirs are the first choices, n each, and usage counts all (vLLM's order)", async () => {
    const { backend, ask } = enabled();
    const { body } = await ask({ prompt: ['one', 'two'], prompt_embeds: [encoded(2), encoded(5)], n: 2 });
    expect(body.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const lengths = backend.requests.map(({ embeds, prompt }) => [embeds !== undefined, prompt.length]);
    const texts = [pico.encode('one', true).length, pico.encode('two', true).length];
    expect(lengths).toEqual([
      [true, 2],
      [true, 5],
      [false, texts[0]],
      [false, texts[1]],
    ]);
    expect(body.usage.prompt_tokens).toBe(7 + texts[0]! + texts[1]!);
  });

  test('truncate_prompt_tokens keeps the last rows', async () => {
    const { backend, ask } = enabled();
    await ask({ prompt_embeds: encoded(5), truncate_prompt_tokens: 2 });
    const { prompt, embeds } = backend.requests[0]!;
    expect(prompt).toHaveLength(2);
    expect(Buffer.from(embeds!.data, 'base64')).toEqual(Buffer.from(floatBytes(ramp(5).slice(3 * HIDDEN), 'f32')));
  });

  test.each([
    [{ prompt_embeds: encoded(2), echo: true }, 'echo', /prompt_embeds/],
    [{ prompt_embeds: encoded(2), prompt_logprobs: 1 }, 'prompt_logprobs', /those of tokens/],
    [
      { prompt_embeds: encoded(2, 'f32', 5) },
      'prompt_embeds',
      /rows have 5 values, and the embeddings of this model have 4/,
    ],
    [{ prompt_embeds: [encoded(2), 'AAAA'] }, 'prompt_embeds[1]', /no zip archive/],
    [{ prompt_embeds: 'not base64' }, 'prompt_embeds', /not base64/],
    [{ prompt_embeds: 7 }, 'prompt_embeds', /must be base64/],
    [{ prompt_embeds: [] }, 'prompt_embeds', /prompt_embeds/],
    [{ prompt: '' }, 'prompt', /empty/],
    [{}, 'prompt', /missing/],
    [
      { prompt_embeds: encoded(20), max_tokens: 2040 },
      'max_tokens',
      /maximum context length is 2048 tokens and the prompt has/,
    ],
    [{ prompt_embeds: encoded(2), n: 129 }, 'n', /n/],
  ])('%j is refused by its name', async (fields, param, why) => {
    const { backend, ask } = enabled();
    const { status, body } = await ask(fields);
    expect({ status, param: body.error.param }).toEqual({ status: 400, param });
    expect(body.error.message).toMatch(why);
    expect(backend.requests).toEqual([]);
  });

  test('bodies may be longer than others by what embeddings take, and no more; 413 before anything is decoded', async () => {
    const { api, ask } = enabled();
    const most = 20 << 20;
    expect((await ask({ prompt_embeds: 'A'.repeat(most) })).body.error.message).toMatch(/no zip archive/);
    const beyond = await ask({ prompt_embeds: '!'.repeat(most + 4) });
    expect(beyond).toMatchObject({
      status: 413,
      body: { error: { code: 'request_too_large', param: 'prompt_embeds' } },
    });
    expect(beyond.body.error.message).toMatch(/15728643 bytes, and one request may bring 15728640/);
    expect((await ask({ prompt_embeds: 'A'.repeat(most + 4096) })).status).toBe(413);
    const chat = await api.post('/v1/chat/completions', {
      model,
      messages: [{ role: 'user', content: 'A'.repeat(5000) }],
    });
    expect(chat.status).toBe(413);
  });
});
