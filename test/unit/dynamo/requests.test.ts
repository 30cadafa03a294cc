import { describe, expect, it } from 'vitest';
import type { DynamoErrorType } from '../../../src/dynamo/ports.ts';
import type { Backend } from '../../../src/frontend/backend.ts';
import { ApiError, badRequest, unavailable } from '../../../src/frontend/errors.ts';
import { EOS, ScriptedBackend } from '../frontend/support.ts';
import { ask, asked, type Body, changed, chat, says, tokensOf } from './asking.ts';
import { allOptions, disaggregated, migrated } from './captures.ts';

describe('a chat request', () => {
  it('is computed as a worker of Dynamo does, and answered item by item', async () => {
    const backend = says([401, 79, 40, 69, 401, 79, 40, 69, 5], { cached: 3 });
    const { items, ended, places } = await ask(chat, backend);
    expect(asked(backend)).toMatchObject({ prompt: chat.token_ids, choices: [{ choice: 0, generated: [] }] });
    // What the client left out is the model's own.
    expect(asked(backend).sampling).toMatchObject({
      temperature: 0.7,
      topP: 0.95,
      topK: 40,
      maxTokens: 8,
      logprobs: null,
    });
    expect(new Set(asked(backend).sampling.stopIds)).toEqual(new Set([2, 0]));
    expect(places).toEqual([{ node: 'node-a', rank: 0, prefill: null }]);
    expect(items.slice(0, 7)).toEqual([401, 79, 40, 69, 401, 79, 40].map((id) => ({ token_ids: [id] })));
    // The keys in the order of the capture.
    expect(JSON.stringify(items[7])).toBe(
      '{"token_ids":[69],"finish_reason":"length","completion_usage":{"prompt_tokens":10,"completion_tokens":8,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":3}}}',
    );
    expect(items).toHaveLength(8);
    expect(ended).toBe(true);
  });

  it('ends by an end token of the model', async () => {
    const { items } = await ask(chat, says([401, EOS]));
    expect(items.at(-1)).toMatchObject({
      token_ids: [EOS],
      finish_reason: 'eos',
      completion_usage: { completion_tokens: 2 },
    });
  });

  it('has all of its options', async () => {
    const body = changed(allOptions, {
      stop_conditions: { max_thinking_tokens: null },
      sampling_options: { guided_decoding: null },
    });
    const backend = says([7, 8, 9, 10]);
    const { items, error } = await ask(body, backend);
    expect(error).toBeNull();
    expect(asked(backend)).toMatchObject({ cacheSalt: 'tenant-a' });
    expect(asked(backend).sampling).toMatchObject({
      ...{ temperature: 0.5, topP: 0.9, topK: 5, minP: 0.1, seed: [7, 0], minTokens: 1, maxTokens: 4, stopIds: [] },
      ...{ presencePenalty: 0.1, frequencyPenalty: 0.2, repetitionPenalty: 1.1, logprobs: 3, promptLogprobs: null },
    });
    // The script's: each token is the second likeliest.
    expect(items[1]).toEqual({
      token_ids: [8],
      log_probs: [-0.75],
      top_logprobs: [
        [
          { rank: 1, token_id: 100, logprob: -0.5 },
          { rank: 2, token_id: 8, logprob: -0.75 },
          { rank: 3, token_id: 101, logprob: -2.5 },
        ],
      ],
    });
  });

  it('goes before others where it may, the highest number first', async () => {
    const body = changed(allOptions, {
      stop_conditions: { max_thinking_tokens: null },
      sampling_options: { guided_decoding: null },
    });
    for (const [priorities, expected] of [
      [true, -3],
      [false, undefined],
    ] as const) {
      const backend = says([7]);
      await ask(body, backend, { priorities });
      expect(asked(backend).priority).toBe(expected);
    }
  });

  it('of a seed of 64 bits is computed by the nearest one', async () => {
    const backend = says([7]);
    await ask(changed(chat, { sampling_options: { seed: 2n ** 63n - 2n } }), backend);
    expect(asked(backend).sampling.seed).toEqual([0, 2 ** 31]);
  });

  it('gets as many tokens as the context has room for, whatever it asks for', async () => {
    for (const max_tokens of [4000, null]) {
      const backend = says([7, EOS]);
      expect((await ask(changed(chat, { stop_conditions: { max_tokens } }), backend)).error).toBeNull();
      expect(asked(backend).sampling.maxTokens).toBe(2048 - 10);
    }
    const long = changed(chat, { token_ids: Array.from({ length: 2048 }, () => 7) });
    expect((await ask(long, says([7]))).error).toMatchObject({
      type: 'InvalidArgument',
      message: expect.stringContaining('2048'),
    });
  });

  it('of several choices says of which one each item is, and tells the usage once, at the end of all', async () => {
    const backend = new ScriptedBackend({
      tokens: (_, choice) => (choice === 0 ? [7, EOS] : [8, 9, 10, EOS]),
      cached: 4,
    });
    const { items } = await ask(changed(chat, { sampling_options: { n: 2 } }), backend);
    const of = (choice: number) => items.filter(({ index }) => index === choice);
    expect(tokensOf(of(0))).toEqual([7, EOS]);
    expect(tokensOf(of(1))).toEqual([8, 9, 10, EOS]);
    expect(of(0).length + of(1).length).toBe(items.length);
    expect(items.filter((item) => 'completion_usage' in item)).toEqual([items.at(-1)]);
    expect(items.at(-1)).toMatchObject({
      completion_usage: { prompt_tokens: 10, completion_tokens: 6, prompt_tokens_details: { cached_tokens: 4 } },
    });
  });

  it('that another worker began goes on from where it was', async () => {
    const backend = says([5, 6, 7, 8, 9, 10]);
    const { items } = await ask(migrated, backend);
    expect(asked(backend).prompt.slice(-3)).toEqual([401, 79, 40]);
    expect(tokensOf(items)).toEqual([5, 6, 7, 8, 9]);
  });

  it('stops on the node when the frontend wants no more', async () => {
    const stop = new AbortController();
    const backend = says([7, 7, 7, 7, 7, 7, 7, 7]);
    let seen = 0;
    const { items, error, ended } = await ask(chat, backend, {
      signal: stop.signal,
      item: () => {
        seen += 1;
        if (seen === 2) stop.abort();
      },
    });
    expect(items).toHaveLength(2);
    expect(backend.signals[0]?.aborted).toBe(true);
    expect(backend.framesGiven).toBeLessThanOrEqual(3);
    expect({ error, ended }).toEqual({ error: null, ended: true });
  });
});

it.each<[string, Body | unknown, string]>([
  ['a thinking budget', allOptions, 'stop_conditions.max_thinking_tokens'],
  [
    'logprobs of the prompt',
    changed(chat, { output_options: { prompt_logprobs: 1 } }),
    'output_options.prompt_logprobs',
  ],
  ['beam search', changed(chat, { sampling_options: { use_beam_search: true } }), 'sampling_options.use_beam_search'],
  ['the best of more', changed(chat, { sampling_options: { best_of: 3, n: 2 } }), 'best_of'],
  ['images', changed(chat, { multi_modal_data: { image_url: [] } }), 'multi_modal_data'],
  ['an adapter', changed(chat, { routing: { lora_name: 'x' } }), 'routing.lora_name'],
  ['an option that is new', changed(chat, { sampling_options: { novelty: 1 } }), 'sampling_options.novelty'],
  ['no tokens', changed(chat, { token_ids: [] }), 'token_ids'],
  ['an id that the model does not have', changed(chat, { token_ids: [1, 5000] }), '5000'],
  ['a temperature below 0', changed(chat, { sampling_options: { temperature: -1 } }), 'sampling_options.temperature'],
  ['no object at all', 7, 'JSON object'],
])('%s is refused by name', async (_what, body, name) => {
  const backend = says([7]);
  const { error } = await ask(body, backend);
  expect(error).toMatchObject({ type: 'InvalidArgument', message: expect.stringContaining(name) });
  expect(backend.requests).toEqual([]);
});

it.each<[string, unknown, DynamoErrorType, string]>([
  ['a bad request', badRequest('too long'), 'InvalidArgument', 'too long'],
  ['a lost node', unavailable('gone', 'node_lost'), 'Disconnected', 'gone'],
  ['no node', unavailable('none', 'no_node_ready'), 'Disconnected', 'none'],
  ['a hub that stops', unavailable('bye', 'hub_stopping'), { Backend: 'EngineShutdown' }, 'bye'],
  ['a full hub', unavailable('full', 'overloaded'), 'Unknown', '{"message":"full","code":503}'],
  ['another status', new ApiError(429, 'rate_limit_error', 'slow'), 'Unknown', '{"message":"slow","code":429}'],
  ['a fault of ours', new TypeError('a secret'), 'Unknown', 'Its log has the cause.'],
])('%s, after a token too, has the word that Dynamo knows', async (_what, thrown, type, message) => {
  const backend: Backend = {
    async *generate({ request }) {
      yield { request, choice: 0, offset: 0, tokens: [7] };
      throw thrown;
    },
  };
  const { items, error, ended } = await ask(chat, backend);
  expect(tokensOf(items)).toEqual([7]);
  expect(error).toEqual({ type, message: expect.stringContaining(message) });
  expect(error?.message).not.toContain('secret');
  expect(ended).toBe(false);
});

describe('disaggregation', () => {
  it('tells the decode leg who was chosen to compute the prompt, in the first item of the prefill leg', async () => {
    const prefill = says([7]);
    const leg = await ask(disaggregated.prefill.body, prefill, { role: 'prefill' });
    expect(leg.items).toEqual([
      {
        token_ids: [expect.any(Number)],
        disaggregated_params: { quire: { node: 'node-a', rank: 0 } },
        finish_reason: 'length',
      },
    ]);
    expect({ ended: leg.ended, error: leg.error }).toEqual({ ended: true, error: null });
    const params = leg.items[0]?.disaggregated_params;
    const decode = says([7, 8, EOS]);
    const body = changed(disaggregated.decode.body, { prefill_result: { disaggregated_params: params } });
    const { items, places } = await ask(body, decode, { role: 'decode' });
    expect(places).toEqual([{ node: 'node-a', rank: 0, prefill: { node: 'node-a', rank: 0 } }]);
    // All tokens of the answer, from the first.
    expect(tokensOf(items)).toEqual([7, 8, EOS]);
  });

  it.each([['"dummy"'], [null], [{ quire: { room: 'x' } }]])(
    'goes on alone where %o is not of ours',
    async (params) => {
      const body = changed(disaggregated.decode.body, { prefill_result: { disaggregated_params: params } });
      const { places, error } = await ask(body, says([7, EOS]), { role: 'decode' });
      expect([places[0]?.prefill, error]).toEqual([null, null]);
    },
  );

  it('takes the first rank of the prefill node where none is named', async () => {
    const { items } = await ask({ ...disaggregated.prefill.body, routing: null }, says([7]), { role: 'prefill' });
    expect(items[0]).toMatchObject({ disaggregated_params: { quire: { node: 'node-a', rank: 2 } } });
  });
});
