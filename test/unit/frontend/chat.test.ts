import { describe, expect, test } from 'vitest';
import { ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const user = (content: string) => [{ role: 'user' as const, content }];

describe('/v1/chat/completions, by the official client', () => {
  test('answers whole', async () => {
    const backend = new ScriptedBackend({ ...saying('Hello there.'), cached: 3 });
    const { client } = testApi([servedModel(backend)]);
    const answer = await client.chat.completions.create({ model: 'quire-pico', messages: user('Hi') });
    expect(answer.choices).toHaveLength(1);
    expect(answer.choices[0]?.message).toEqual({ role: 'assistant', content: 'Hello there.', refusal: null });
    expect(answer.choices[0]?.finish_reason).toBe('stop');
    const prompt = backend.requests[0]?.prompt.length ?? 0;
    expect(prompt).toBeGreaterThan(3);
    expect(answer.usage?.prompt_tokens).toBe(prompt);
    expect(answer.usage?.prompt_tokens_details).toEqual({ cached_tokens: 3 });
    expect(answer.usage?.total_tokens).toBe(prompt + (answer.usage?.completion_tokens ?? 0));
  });

  test('streams', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('Grüße, 世界 🎉!')))]);
    const stream = await client.chat.completions.create({
      model: 'quire-pico',
      messages: user('Hi'),
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
    expect(chunks.at(-1)?.usage?.completion_tokens).toBeGreaterThan(5);
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true);
  });
});
