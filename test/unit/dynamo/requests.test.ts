import pino from 'pino';
import { describe, expect, it } from 'vitest';
import type { BridgeHub, DynamoErrorType, WishedPlace } from '../../../src/dynamo/ports.ts';
import { generateHandler } from '../../../src/dynamo/requests/generate-handler.ts';
import type { Backend, ServedModel } from '../../../src/frontend/backend.ts';
import { ApiError, badRequest, unavailable } from '../../../src/frontend/errors.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import type { Role } from '../../../src/protocol/messages.ts';
import { cardOf } from '../../support/routing-simulation.ts';
import { EOS, pico, ScriptedBackend, servedModel } from '../frontend/support.ts';
import { allOptions, chatRequest, disaggregated, migrated, stopString } from './captures.ts';

type Body = Record<string, unknown>;
const chat = chatRequest.body as Body;

/** A captured body with some of its fields changed, a level deep. */
function changed(body: Body, change: Record<string, Body | unknown>): Body {
  const merged = Object.entries(change).map(([key, value]) => {
    const before = body[key];
    const nested = typeof value === 'object' && value !== null && !Array.isArray(value);
    return [key, nested ? { ...(before as Body), ...value } : value];
  });
  return { ...body, ...Object.fromEntries(merged) };
}

interface Answer {
  readonly items: Record<string, unknown>[];
  readonly error: { readonly type: DynamoErrorType; readonly message: string } | null;
  readonly ended: boolean;
  readonly places: WishedPlace[];
}

async function ask(
  body: unknown,
  backend: Backend,
  {
    role = 'agg',
    model = {},
    signal = new AbortController().signal,
    item = () => {},
  }: { role?: Role; model?: Partial<ServedModel>; signal?: AbortSignal; item?: () => void } = {},
): Promise<Answer> {
  const answer = {
    items: [] as Record<string, unknown>[],
    error: null as Answer['error'],
    ended: false,
    places: [] as WishedPlace[],
  };
  const served = servedModel(backend, model);
  const hub: Pick<BridgeHub, 'generate'> = {
    generate(name, request, place, aborted) {
      expect(name).toBe(served.name);
      answer.places.push(place);
      return backend.generate(request, aborted, { ...place, knobs: {}, routed() {}, transferred() {}, migrated() {} });
    },
  };
  const node = {
    id: 'node-a',
    model: served.name,
    card: { ...cardOf({ id: 'node-a', speed: 1, blocks: 512 }, 16), role, dpRank: 2, dpSize: 2 },
  };
  const worker = { node, model: { served, maxModelLen: 2048, blockSize: 16, files: [] } };
  const handler = generateHandler({ hub, worker, log: pino({ level: 'silent' }) });
  let open = true;
  await handler(
    body,
    {
      accept() {},
      async item(data) {
        if (!open) return;
        answer.items.push(data as Record<string, unknown>);
        item();
      },
      error(type, message) {
        if (open) answer.error = { type, message };
        open = false;
      },
      end() {
        if (open) answer.ended = true;
        open = false;
      },
      abandon() {},
    },
    signal,
  );
  return answer;
}

const says = (tokens: readonly number[], more: Partial<ScriptedBackend['script']> = {}) =>
  new ScriptedBackend({ tokens: () => tokens, ...more });
const ids = (text: string) => pico.encode(text, false);
const asked = (backend: ScriptedBackend): GenerateRequest => backend.requests[0]!;
const tokensOf = (items: readonly Record<string, unknown>[]) => items.flatMap(({ token_ids }) => token_ids as number[]);
const textOf = (items: readonly Record<string, unknown>[]) => items.map(({ text }) => text).join('');

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

describe('stop strings', () => {
  const script = [1600, 644, 84, 76, 1032, 1148, 22, 1600, 644, 84, 76, 1032];
  const whole = script.map((id) => new TextDecoder().decode(pico.piece(id).bytes)).join('');

  it('are held back here, to the character: the frontend would show their beginning', async () => {
    expect(whole).toContain('world');
    const backend = says(script);
    const { items } = await ask(stopString, backend);
    expect(textOf(items)).toBe(whole.slice(0, whole.indexOf('world')));
    expect(items.at(-1)).toMatchObject({ finish_reason: 'stop' });
    expect(tokensOf(items).length).toBeLessThan(script.length);
    expect(backend.signals[0]?.aborted).toBe(true);
    // Names for logprobs, one a token.
    for (const { token_ids, tokens } of items) expect(tokens).toHaveLength((token_ids as number[]).length);
  });

  it('are part of the text where the client wants them', async () => {
    const body = changed(stopString, { sampling_options: { include_stop_str_in_output: true } });
    const { items } = await ask(body, says(script));
    expect(textOf(items)).toBe(whole.slice(0, whole.indexOf('world') + 'world'.length));
  });

  it('that do not come leave the whole text, what was held back too', async () => {
    const body = changed(stopString, {
      stop_conditions: { stop: [`${whole.slice(-3)}never`], max_tokens: script.length },
    });
    const { items } = await ask(body, says(script));
    expect(textOf(items)).toBe(whole);
    expect(items.at(-1)).toMatchObject({ finish_reason: 'length' });
  });

  it('come with the names of likely tokens, which frontends leave empty beside texts', async () => {
    const { items } = await ask(changed(stopString, { output_options: { logprobs: 1 } }), says(script));
    const bytes = [...pico.piece(100).bytes];
    const top = {
      rank: 1,
      token_id: 100,
      token: new TextDecoder().decode(Uint8Array.from(bytes)),
      bytes,
      logprob: -0.5,
    };
    expect(items[0]).toMatchObject({ log_probs: [-0.75], top_logprobs: [[top]] });
  });

  it('given as ids end the answer without the text of the id', async () => {
    const body = changed(chat, { stop_conditions: { stop_token_ids: [84], max_tokens: 20 } });
    const { items } = await ask(body, says(script));
    expect(tokensOf(items)).toEqual([1600, 644, 84]);
    expect(textOf(items)).toBe([1600, 644].map((id) => new TextDecoder().decode(pico.piece(id).bytes)).join(''));
    expect(items.at(-1)).toMatchObject({ finish_reason: 'stop' });
  });
});

describe('guided decoding', () => {
  const guided = (guided_decoding: object, change: Body = {}) =>
    changed(changed(chat, { sampling_options: { guided_decoding } }), change);

  it.each<[string, object, RegExp]>([
    ['a schema', { json: { type: 'object', properties: { city: { type: 'string' } } } }, /city/],
    ['the text of a schema', { json: '{"type":"object","properties":{"city":{"type":"string"}}}' }, /city/],
    ['a pattern', { regex: '(yes|no)!', backend: 'xgrammar' }, /\[y\] \[e\] \[s\]/],
    ['a choice', { choice: ['left', 'right'] }, /"left"/],
    ['a grammar', { grammar: 'root ::= "hm"' }, /"hm"/],
  ])('by %s becomes a grammar', async (_what, options, grammar) => {
    const backend = says([7, EOS]);
    const { error } = await ask(guided(options), backend);
    expect(error).toBeNull();
    expect(asked(backend).grammar).toMatch(grammar);
  });

  it('begins after reasoning that the prompt begins, and goes on after its end with ignore_eos', async () => {
    const backend = says([7, EOS]);
    await ask(guided({ regex: 'a' }, { token_ids: [1, ...ids('<think>\n')] }), backend);
    const [start] = ids('<think>');
    const [end] = ids('</think>');
    expect(asked(backend)).toMatchObject({ thought: { begun: true, starts: [start], ends: [end] } });
    const free = says([7, EOS]);
    await ask(guided({ regex: 'a' }, { stop_conditions: { ignore_eos: true } }), free);
    expect(asked(free)).toMatchObject({ grammarEnds: expect.arrayContaining([EOS]) });
    expect(asked(free)).not.toHaveProperty('thought');
  });

  it.each<[string, Body, string]>([
    ['a schema that nothing can be held to', guided({ json: { type: 'object', not: {} } }), 'structured_outputs.json'],
    ['two of them', guided({ json: { type: 'object' }, regex: 'a' }), 'both say what the answer must be'],
    ['a structural tag', guided({ structural_tag: {} }), 'sampling_options.guided_decoding.structural_tag'],
  ])('by %s is a bad request, and computes nothing', async (_what, body, message) => {
    const backend = says([7]);
    const { error, items } = await ask(body, backend);
    expect(error).toMatchObject({ type: 'InvalidArgument', message: expect.stringContaining(message) });
    expect(items).toEqual([]);
    expect(backend.requests).toEqual([]);
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
