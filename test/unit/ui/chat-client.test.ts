import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ApiFetch } from '../../../src/node/page/worker-fetch.ts';
import { type ChatDelta, ChatError, streamChat } from '../../../src/ui/chat-client.ts';

const QUESTION = {
  model: 'm',
  messages: [{ role: 'user', content: 'Hi' }] as const,
  temperature: null,
  maxTokens: 8,
  apiKey: '',
};

const chunk = (content: string, ids: number[], finish: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: finish, token_ids: ids }] })}\n\n`;

const USAGE = `data: ${JSON.stringify({
  choices: [],
  usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10, prompt_tokens_details: { cached_tokens: 4 } },
})}\n\n`;

/** A server that sends `bytes`, cut at `cuts`. */
function serve(bytes: Uint8Array, cuts: readonly number[], status = 200): { fetchApi: ApiFetch; bodies: unknown[] } {
  const bodies: unknown[] = [];
  const fetchApi: ApiFetch = async (_path, init) => {
    bodies.push(JSON.parse(init.body ?? 'null'));
    const borders = [0, ...[...cuts].sort((a, b) => a - b), bytes.length];
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 1; i < borders.length; i++) controller.enqueue(bytes.slice(borders[i - 1], borders[i]));
        controller.close();
      },
    });
    return new Response(body, { status });
  };
  return { fetchApi, bodies };
}

async function collect(fetchApi: ApiFetch): Promise<ChatDelta[]> {
  const deltas: ChatDelta[] = [];
  for await (const delta of streamChat(fetchApi, QUESTION, new AbortController().signal)) deltas.push(delta);
  return deltas;
}

describe('the playground’s stream', () => {
  const text = [chunk('Grüße, ', [1]), chunk('日本 👋', [2, 3], 'stop'), USAGE, 'data: [DONE]\n\n'].join('');
  const bytes = new TextEncoder().encode(text);

  test('is the same however the bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 12 }), async (cuts) => {
        const deltas = await collect(serve(bytes, cuts).fetchApi);
        expect(deltas.map((delta) => delta.text).join('')).toBe('Grüße, 日本 👋');
        expect(deltas.map((delta) => delta.tokens)).toEqual([1, 2, 0]);
        expect(deltas.map((delta) => delta.finishReason)).toEqual([null, 'stop', null]);
        expect(deltas.at(-1)?.usage).toEqual({ promptTokens: 7, completionTokens: 3, cachedTokens: 4 });
      }),
      { numRuns: 200 },
    );
  });

  test('leaves the temperature to the model unless one is chosen', async () => {
    const { fetchApi, bodies } = serve(bytes, []);
    await collect(fetchApi);
    expect(bodies[0]).not.toHaveProperty('temperature');
    expect(bodies[0]).toMatchObject({ stream: true, max_completion_tokens: 8, model: 'm' });
  });

  test('an error answer throws the API’s words and status', async () => {
    const body = new TextEncoder().encode(JSON.stringify({ error: { message: 'No node is ready.' } }));
    await expect(collect(serve(body, [], 503).fetchApi)).rejects.toEqual(new ChatError(503, 'No node is ready.'));
  });

  test('an error in the middle of the stream throws too', async () => {
    const broken = `${chunk('Hel', [1])}data: {"error":{"message":"The node was lost."}}\n\n`;
    const { fetchApi } = serve(new TextEncoder().encode(broken), []);
    await expect(collect(fetchApi)).rejects.toThrow('The node was lost.');
  });

  test('a stream that ends without its end is no answer', async () => {
    const { fetchApi } = serve(new TextEncoder().encode(chunk('Hel', [1])), []);
    await expect(collect(fetchApi)).rejects.toThrow(/broke off/);
  });
});
