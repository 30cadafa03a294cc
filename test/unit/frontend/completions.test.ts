import { describe, expect, test } from 'vitest';
import { EOS, pico, reference, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const model = 'quire-pico';
interface WithIds {
  token_ids?: number[];
  prompt_token_ids?: number[];
}

describe('/v1/completions, by the official client', () => {
  test.each(reference.flatMap((entry) => (entry.prompt === undefined ? [] : [[entry.prompt, entry] as const])))(
    'the reference continues "%s"',
    async (prompt, entry) => {
      const backend = new ScriptedBackend({ tokens: () => entry.output_ids });
      const { client } = testApi([servedModel(backend)]);
      const answer = await client.completions.create({ model, prompt, max_tokens: entry.output_ids.length });
      expect(backend.requests[0]?.prompt).toEqual(entry.input_ids);
      expect(answer.choices[0]?.text).toBe(entry.text.replace('<|im_end|>', ''));
    },
  );

  test('16 tokens unless the request says otherwise, fewer where the context ends', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend, { maxModelLen: () => 20 })]);
    await client.completions.create({ model, prompt: [5] });
    await client.completions.create({ model, prompt: Array<number>(15).fill(5) });
    expect(backend.requests.map((request) => request.sampling.maxTokens)).toEqual([16, 5]);
  });

  test('prompts as text, texts, ids, lists of ids', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend)]);
    for (const prompt of ['Hi', ['Hi', 'Once'], [5, 6], [[5, 6], [7]]])
      await client.completions.create({ model, prompt });
    expect(backend.requests.map((request) => request.prompt)).toEqual([
      pico.encode('Hi', true),
      pico.encode('Hi', true),
      pico.encode('Once', true),
      [5, 6],
      [5, 6],
      [7],
    ]);
    expect(new Set(backend.requests.map((request) => request.request)).size).toBe(6);
  });

  test('several prompts with n: choices prompt by prompt, usage summed', async () => {
    const backend = new ScriptedBackend({
      tokens: (request, choice) => [...pico.encode(`p${request.prompt[0]} c${choice}`, false), EOS],
      cached: 1,
    });
    const { client } = testApi([servedModel(backend)]);
    const request = { model, prompt: [[5, 6], [7]], n: 2 };
    const answer = await client.completions.create(request);
    expect(answer.choices.map((choice) => [choice.index, choice.text])).toEqual([
      [0, 'p5 c0'],
      [1, 'p5 c1'],
      [2, 'p7 c0'],
      [3, 'p7 c1'],
    ]);
    expect(answer.usage).toMatchObject({ prompt_tokens: 3, prompt_tokens_details: { cached_tokens: 2 } });
    const texts: string[] = ['', '', '', ''];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
    }
    expect(texts).toEqual(['p5 c0', 'p5 c1', 'p7 c0', 'p7 c1']);
  });

  test('prompts run at the same time; one that fails ends the others', async () => {
    let running = 0;
    let most = 0;
    const backend = new ScriptedBackend({
      tokens: () => Array<number>(50).fill(30),
      async pause(request, frame) {
        if (frame === 0) most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (frame === 3 && request.prompt[0] === 6) throw new Error('broken');
      },
    });
    const { post, internalErrors } = testApi([servedModel(backend)]);
    const response = await post('/v1/completions', { model, prompt: [[5], [6], [7]], max_tokens: 50 });
    expect(response.status).toBe(500);
    expect(internalErrors).toHaveLength(1);
    expect(most).toBe(3);
    expect(backend.signals.map((signal) => signal.aborted)).toEqual([true, true, true]);
    expect(backend.framesGiven).toBeLessThan(20);
  });

  test('a prompt whose stop string came is computed no further while the others go on', async () => {
    let abortedEarly = false;
    const backend = new ScriptedBackend({
      tokens: (request) =>
        pico.encode(request.prompt[0] === 5 ? 'a STOP b c d e f g h' : 'b c d e f g h i j k l m', false),
      pause(request, frame) {
        if (request.prompt[0] === 6 && frame === 10) abortedEarly = backend.signals[0]?.aborted === true;
      },
    });
    const { client } = testApi([servedModel(backend)]);
    const answer = await client.completions.create({ model, prompt: [[5], [6]], stop: 'STOP', max_tokens: 12 });
    expect(answer.choices.map((choice) => choice.finish_reason)).toEqual(['stop', 'length']);
    expect(abortedEarly).toBe(true);
  });

  test("vLLM's return_token_ids, whole and streamed", async () => {
    const backend = new ScriptedBackend({ ...saying('Hello there.'), frame: 2 });
    const { client } = testApi([servedModel(backend)]);
    const request = { model, prompt: [[5, 6], [7]], return_token_ids: true, ignore_eos: false };
    const said = [...pico.encode('Hello there.', false), EOS];
    const answer = await client.completions.create(request);
    expect(answer.choices.map((choice) => (choice as WithIds).token_ids)).toEqual([said, said]);
    expect(answer.choices.map((choice) => (choice as WithIds).prompt_token_ids)).toEqual([[5, 6], [7]]);
    const streamed: number[][] = [[], []];
    const prompts: unknown[][] = [[], []];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      for (const choice of chunk.choices as (WithIds & { index: number })[]) {
        streamed[choice.index]?.push(...(choice.token_ids ?? []));
        if (choice.prompt_token_ids !== undefined) prompts[choice.index]?.push(choice.prompt_token_ids);
      }
    }
    expect(streamed).toEqual([said, said]);
    expect(prompts).toEqual([[[5, 6]], [[7]]]);
  });

  test('seeds: 64 bits as two words; drawn where the request has none', async () => {
    const backend = new ScriptedBackend(saying('x'));
    const { client } = testApi([servedModel(backend)]);
    for (const seed of [0, 1, -1, 2 ** 32 + 7, -(2 ** 63)])
      await client.completions.create({ model, prompt: [5], seed });
    await client.completions.create({ model, prompt: [5] });
    expect(backend.requests.map((request) => request.sampling.seed)).toEqual([
      [0, 0],
      [1, 0],
      [0xffffffff, 0xffffffff],
      [7, 1],
      [0, 0x80000000],
      [11, 22],
    ]);
  });
});

describe('without a tokenizer (--skip-tokenizer-init)', () => {
  const idsOnly = (backend: ScriptedBackend) => testApi([servedModel(backend, { tokenizer: null })]);

  test('ids in, ids out', async () => {
    const backend = new ScriptedBackend({ tokens: () => [40, 41, EOS] });
    const { client } = idsOnly(backend);
    const answer = await client.completions.create({ model, prompt: [5, 6], logprobs: 1 });
    expect(answer.choices[0]).toMatchObject({ text: '', token_ids: [40, 41, EOS], prompt_token_ids: [5, 6] });
    expect(answer.choices[0]?.logprobs?.tokens).toEqual(['token_id:40', 'token_id:41', 'token_id:2']);
    let streamed: number[] = [];
    for await (const chunk of await client.completions.create({ model, prompt: [5], stream: true })) {
      streamed = [...streamed, ...((chunk.choices[0] as WithIds).token_ids ?? [])];
    }
    expect(streamed).toEqual([40, 41, EOS]);
  });

  test.each([
    ['/v1/completions', { prompt: 'Hi' }, 'prompt'],
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'Hi' }] }, 'messages'],
    ['/v1/completions', { prompt: [5], stop: 'x' }, 'stop'],
  ])('%s with %o is a 400 that says so', async (path, body, param) => {
    const response = await idsOnly(new ScriptedBackend(saying('x'))).post(path, { model, ...body });
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { message: string; param: string } };
    expect(error.param).toBe(param);
    expect(error.message).toContain('--skip-tokenizer-init');
  });
});

describe('echo', () => {
  const bos = pico.encode('', true);

  test('the prompt stands before each answer, streamed or not, also for prompts of ids', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying(' there')))]);
    const request = { model, prompt: ['Hi', 'Once'], n: 2, echo: true };
    const answer = await client.completions.create(request);
    const expected = ['Hi there', 'Hi there', 'Once there', 'Once there'];
    expect(answer.choices.map((choice) => choice.text)).toEqual(expected);
    const texts = ['', '', '', ''];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
    }
    expect(texts).toEqual(expected);
    const ids = await client.completions.create({ model, prompt: pico.encode('Straße €', false), echo: true });
    expect(ids.choices[0]?.text).toBe('Straße € there');
  });

  test('logprobs: of the prompt too, offsets counted through both', async () => {
    const backend = new ScriptedBackend(saying(' there'));
    const { client } = testApi([servedModel(backend)]);
    const prompt = 'Grüße';
    const request = { model, prompt, echo: true, logprobs: 2 };
    const ids = pico.encode(prompt, true);
    const said = [...pico.encode(' there', false), EOS];
    const { logprobs, text } = (await client.completions.create(request)).choices[0] ?? {};
    expect(backend.requests[0]?.sampling).toMatchObject({ logprobs: 2, promptLogprobs: 2 });
    expect(text).toBe('Grüße there');
    expect(logprobs?.tokens).toHaveLength(ids.length + said.length);
    expect(logprobs?.token_logprobs?.[0]).toBeNull();
    expect(logprobs?.top_logprobs?.[0]).toBeNull();
    expect(logprobs?.token_logprobs?.slice(1)).toEqual(Array(ids.length + said.length - 1).fill(-0.75));
    expect(logprobs?.text_offset?.slice(0, bos.length)).toEqual(bos.map(() => 0));
    expect(logprobs?.text_offset?.[ids.length]).toBe(5);
    let streamed: unknown[] = [];
    let offsets: unknown[] = [];
    for await (const chunk of await client.completions.create({ ...request, stream: true })) {
      streamed = [...streamed, ...(chunk.choices[0]?.logprobs?.tokens ?? [])];
      offsets = [...offsets, ...(chunk.choices[0]?.logprobs?.text_offset ?? [])];
    }
    expect(streamed).toEqual(logprobs?.tokens);
    expect(offsets).toEqual(logprobs?.text_offset);
  });

  test('max_tokens 0 scores the prompt and answers nothing else', async () => {
    const backend = new ScriptedBackend(saying('never shown'));
    const { client } = testApi([servedModel(backend)]);
    const request = { model, prompt: [5, 6, 7], echo: true, logprobs: 1, max_tokens: 0 };
    const answer = await client.completions.create(request);
    expect(backend.requests[0]?.sampling.maxTokens).toBe(1);
    expect(answer.choices[0]).toMatchObject({ text: textOf([5, 6, 7]), finish_reason: 'length' });
    expect(answer.choices[0]?.logprobs?.token_logprobs).toEqual([null, -0.75, -0.75]);
    expect(answer.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 0 });
  });
});

const textOf = (ids: number[]) => Buffer.concat(ids.map((id) => pico.piece(id).bytes)).toString();

test('best_of beside an equal n is taken', async () => {
  const { client } = testApi([servedModel(new ScriptedBackend(saying('x')))]);
  const answer = await client.completions.create({ model, prompt: 'Hi', n: 2, best_of: 2 });
  expect(answer.choices).toHaveLength(2);
});

test('truncate_prompt_tokens keeps the last ones; -1 as many as leave room', async () => {
  const backend = new ScriptedBackend(saying('x'));
  const { post } = testApi([servedModel(backend, { maxModelLen: () => 10 })]);
  const prompt = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
  for (const change of [{ truncate_prompt_tokens: 3 }, { truncate_prompt_tokens: -1, max_tokens: 4 }]) {
    expect((await post('/v1/completions', { model, prompt, ...change })).status).toBe(200);
  }
  expect(backend.requests.map((request) => request.prompt)).toEqual([prompt.slice(-3), prompt.slice(-6)]);
});

test('continuous_usage_stats: every chunk tells the usage so far', async () => {
  const { client } = testApi([servedModel(new ScriptedBackend({ tokens: () => [40, 41, 42, EOS] }))]);
  const stream_options = { include_usage: true, continuous_usage_stats: true };
  const usages: unknown[] = [];
  for await (const chunk of await client.completions.create({ model, prompt: [5], stream: true, stream_options })) {
    usages.push(chunk.usage?.completion_tokens);
  }
  expect(usages).toEqual([1, 2, 3, 4, 4]);
});

test('priority goes along where the server takes priorities', async () => {
  const backend = new ScriptedBackend(saying('x'));
  const { post } = testApi([servedModel(backend)], { priorities: true });
  expect((await post('/v1/completions', { model, prompt: [5], priority: -3 })).status).toBe(200);
  expect((await post('/v1/completions', { model, prompt: [5] })).status).toBe(200);
  expect(backend.requests.map(({ priority }) => priority)).toEqual([-3, undefined]);
});
