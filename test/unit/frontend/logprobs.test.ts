import { describe, expect, test } from 'vitest';
import type { TokensFrame } from '../../../src/protocol/generate.ts';
import { EOS, pico, reference, ScriptedBackend, servedModel, testApi } from './support.ts';

const name = (id: number) => new TextDecoder().decode(pico.piece(id).bytes);
const bytes = (id: number) => [...pico.piece(id).bytes];
const story = reference[1];
if (story === undefined) throw new Error('reference.json has no second case');

/** Says what the reference said, with its own logprobs. */
const backend = {
  async *generate(request: { request: string }): AsyncGenerator<TokensFrame> {
    for (const [offset, step] of story.steps.entries()) {
      const last = offset === story.steps.length - 1;
      yield {
        request: request.request,
        choice: 0,
        offset,
        tokens: [step.token],
        logprobs: [{ token: step.token, logprob: step.logprob, rank: 1, top: step.top }],
        ...(offset === 0
          ? {
              promptLogprobs: story.input_ids.map((token, at) =>
                at === 0 ? null : { token, logprob: story.prompt_logprobs[at - 1] ?? 0, rank: 9, top: [[1, -0.5]] },
              ),
            }
          : {}),
        ...(last ? { finish: 'stop', stopId: step.token } : {}),
      };
    }
  },
};
const { client, post } = testApi([servedModel(backend)]);
const chat = {
  model: 'quire-pico',
  messages: [{ role: 'user' as const, content: String(story.messages?.[0]?.content) }],
};

describe('logprobs', () => {
  const expected = story.steps.map((step) => ({
    token: name(step.token),
    logprob: step.logprob,
    bytes: bytes(step.token),
    top_logprobs: step.top.map(([id, logprob]) => ({ token: name(id), logprob, bytes: bytes(id) })),
  }));

  test('of a chat, whole and streamed', async () => {
    const request = { ...chat, logprobs: true, top_logprobs: 5 };
    const answer = await client.chat.completions.create(request);
    expect(answer.choices[0]?.logprobs?.content).toEqual(expected);
    const streamed = [];
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
      streamed.push(...(chunk.choices[0]?.logprobs?.content ?? []));
    }
    expect(streamed).toEqual(expected);
  });

  test('of a completion: the sampled token is always among the top ones; offsets point into the text', async () => {
    const answer = await client.completions.create({
      model: 'quire-pico',
      prompt: [5],
      logprobs: 2,
      max_tokens: story.steps.length,
    });
    const logprobs = answer.choices[0]?.logprobs;
    expect(logprobs?.tokens).toEqual(story.steps.map((step) => name(step.token)));
    expect(logprobs?.token_logprobs).toEqual(story.steps.map((step) => step.logprob));
    for (const [at, step] of story.steps.entries()) {
      expect(logprobs?.top_logprobs?.[at]?.[name(step.token)]).toBe(step.logprob);
      const text = answer.choices[0]?.text ?? '';
      if (step.token !== EOS) expect(text.slice(logprobs?.text_offset?.[at]).startsWith(name(step.token))).toBe(true);
    }
  });

  test('text_offset counts characters, also where a token is half a character', async () => {
    const party = pico.encode('🎉é!', false);
    const { client: other } = testApi([servedModel(new ScriptedBackend({ tokens: () => [...party, EOS] }))]);
    const answer = await other.completions.create({ model: 'quire-pico', prompt: [5], logprobs: 0 });
    const offsets = answer.choices[0]?.logprobs?.text_offset ?? [];
    const halves = party.findIndex((id) => name(id).endsWith('!'));
    expect(halves).toBeGreaterThan(1);
    expect(offsets[0]).toBe(0);
    expect(offsets[1]).toBe(0);
    expect(offsets.at(-1)).toBe(3);
  });

  test('names as ids (return_tokens_as_token_ids)', async () => {
    const request = { ...chat, logprobs: true, top_logprobs: 1, return_tokens_as_token_ids: true };
    const answer = await client.chat.completions.create(request);
    expect(answer.choices[0]?.logprobs?.content?.[0]?.token).toBe(`token_id:${story.steps[0]?.token}`);
  });

  test("of the prompt, in vLLM's shape", async () => {
    const response = await post('/v1/chat/completions', { ...chat, prompt_logprobs: 1 });
    const answer = (await response.json()) as { prompt_logprobs: (Record<string, unknown> | null)[] };
    expect(answer.prompt_logprobs).toHaveLength(story.input_ids.length);
    expect(answer.prompt_logprobs[0]).toBeNull();
    const second = story.input_ids[1] ?? -1;
    expect(answer.prompt_logprobs[1]).toEqual({
      [second]: { logprob: story.prompt_logprobs[0], rank: 9, decoded_token: name(second) },
      '1': { logprob: -0.5, rank: 1, decoded_token: '<|im_start|>' },
    });
  });

  test('prompt logprobs of several prompts with n: every choice has those of its prompt', async () => {
    const scripted = new ScriptedBackend({ tokens: () => [EOS] });
    const { post: send } = testApi([servedModel(scripted)]);
    const response = await send('/v1/completions', {
      model: 'quire-pico',
      prompt: [
        [5, 6],
        [7, 8, 9],
      ],
      n: 2,
      prompt_logprobs: 0,
    });
    const answer = (await response.json()) as { choices: { prompt_logprobs: (object | null)[] }[] };
    expect(answer.choices.map((choice) => choice.prompt_logprobs.map((entry) => entry && Object.keys(entry)))).toEqual([
      [null, ['6']],
      [null, ['6']],
      [null, ['8'], ['9']],
      [null, ['8'], ['9']],
    ]);
  });

  test('a node that leaves out logprobs is an error, never an answer without them', async () => {
    const lazy = {
      async *generate(request: { request: string }): AsyncGenerator<TokensFrame> {
        yield { request: request.request, choice: 0, offset: 0, tokens: [EOS], finish: 'stop', stopId: EOS };
      },
    };
    const { post: send, internalErrors } = testApi([servedModel(lazy)]);
    expect((await send('/v1/chat/completions', { ...chat, logprobs: true })).status).toBe(500);
    expect(internalErrors).toHaveLength(1);
  });
});
