import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ChoiceDelta } from '../../../src/frontend/choice-stream.ts';
import { PlainChunks } from '../../../src/frontend/response.ts';
import { pico, type Script, ScriptedBackend, servedModel, testApi } from './support.ts';

const token = (id: number): ChoiceDelta['tokens'][number] => ({ id, textOffset: 0, logprob: null });

test('the text is the JSON of the same chunk as an object', () => {
  const said = fc.oneof(fc.string({ unit: 'binary' }), fc.record({ content: fc.string({ unit: 'grapheme' }) }));
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      said,
      fc.nat(128),
      fc.option(fc.array(fc.nat())),
      fc.boolean(),
      (model, text, index, ids, usage) => {
        const chunk = (choices: readonly object[]) => ({
          ...{ id: 'a', object: 'o', created: 1, model, choices },
          ...(usage ? { usage: null } : {}),
        });
        const field = typeof text === 'string' ? 'text' : 'delta';
        const plain = new PlainChunks({ ...chunk([]), choices: [] });
        const choice = { index, [field]: text, logprobs: null, finish_reason: null };
        expect(plain.of(index, field, text, ids?.map(token) ?? null)).toBe(
          JSON.stringify(chunk([ids === null ? choice : { ...choice, token_ids: ids }])),
        );
      },
    ),
  );
});

describe('a stream', () => {
  const words = pico.encode('Hello "you" \\ there 🙂 again', false);
  const script: Script = { tokens: () => words };
  const read = async (path: string, body: object) => {
    const { post } = testApi([servedModel(new ScriptedBackend(script))]);
    const text = await (await post(path, { model: 'quire-pico', stream: true, ...body })).text();
    return text.split('\n\n').flatMap((event) => (event.startsWith('data: {') ? [JSON.parse(event.slice(6))] : []));
  };

  test.each([
    ['/v1/completions', { prompt: [5] }, 'text'],
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }] }, 'delta'],
  ])('of %s: chunks that were put together have the fields of those that were not', async (path, body, field) => {
    const asked = { ...body, max_tokens: words.length, return_token_ids: true };
    const plain = await read(path, asked);
    // With logprobs every chunk is an object.
    const whole = await read(path, { ...asked, logprobs: path.includes('chat') ? true : 1 });
    const of = (chunks: typeof plain) =>
      chunks.map(({ id: _, created: __, choices, ...rest }) => ({
        ...rest,
        choices: choices.map((choice: object) => ({ ...choice, logprobs: null })),
      }));
    expect(of(plain)).toEqual(of(whole));
    expect(plain.length).toBeGreaterThan(words.length - 1);
    expect(plain.every(({ choices }) => field in choices[0])).toBe(true);
  });

  test('tells the usage so far in each of them, once', async () => {
    const stream_options = { include_usage: true, continuous_usage_stats: true };
    const body = { prompt: [5], max_tokens: words.length, return_token_ids: true, stream_options };
    const chunks = await read('/v1/completions', body);
    const last = words.length;
    expect(chunks.map(({ usage }) => usage.completion_tokens)).toEqual([...words.map((_, at) => at + 1), last]);
  });
});
