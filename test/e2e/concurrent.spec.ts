import { readFileSync } from 'node:fs';
import type OpenAI from 'openai';
import { clientOf, countersWhenIdle, crowd, growth, keepWorkers, stepRecords } from './client.ts';
import { BROWSER, expect, openReadyNode, test } from './fixture.ts';

test.use(BROWSER);

const MODEL = 'quire-pico';
/** K and V as exact as the reference implementation's; chunks small enough that prompts are cut and mixed with decodes. */
const NODE_OPTIONS = { 'kv-cache-dtype': 'f32', 'max-num-batched-tokens': '128' };

/** One case of `reference.json`: what the reference implementation gives for a prompt, greedily. */
interface ReferenceCase {
  readonly messages?: OpenAI.ChatCompletionMessageParam[];
  readonly tools?: OpenAI.ChatCompletionFunctionTool[];
  readonly enable_thinking?: boolean;
  readonly prompt?: string;
  readonly input_ids: number[];
  readonly output_ids: number[];
  readonly steps: { readonly top: [id: number, logprob: number][] }[];
  readonly prompt_logprobs: number[];
}
const { cases } = JSON.parse(
  readFileSync(new URL('../fixtures/quire-pico/reference.json', import.meta.url), 'utf8'),
) as { cases: ReferenceCase[] };

type PromptLogprobs = (Record<string, { readonly logprob: number; readonly rank: number }> | null)[];

/** What vLLM's fields add to a choice of either endpoint. */
interface ScoredChoice {
  readonly token_ids: number[];
  readonly finish_reason: string;
}

/** Ids, best-first logprobs by id, and the prompt's logprobs, whichever endpoint gave them. */
interface Scored {
  readonly promptIds: number[];
  readonly ids: number[];
  readonly top: Map<number, number>[];
  readonly prompt: PromptLogprobs;
}

const idOf = (name: string): number => Number(/^token_id:(\d+)$/.exec(name)?.[1]);
const EVERYTHING = { return_token_ids: true, return_tokens_as_token_ids: true, prompt_logprobs: 0 };
const TOP = 5;

async function scoredChat(client: OpenAI, c: ReferenceCase): Promise<Scored> {
  const body = {
    model: MODEL,
    messages: c.messages ?? [],
    temperature: 0,
    max_completion_tokens: c.output_ids.length,
    logprobs: true,
    top_logprobs: TOP,
    ...(c.tools && { tools: c.tools }),
    ...(c.enable_thinking && { chat_template_kwargs: { enable_thinking: true } }),
    ...EVERYTHING,
  };
  const answer = (await client.chat.completions.create(body)) as OpenAI.ChatCompletion & {
    prompt_token_ids: number[];
    prompt_logprobs: PromptLogprobs;
  };
  const choice = answer.choices[0] as OpenAI.ChatCompletion.Choice & ScoredChoice;
  return {
    promptIds: answer.prompt_token_ids,
    ids: choice.token_ids,
    top: choice.logprobs!.content!.map((t) => new Map(t.top_logprobs.map((each) => [idOf(each.token), each.logprob]))),
    prompt: answer.prompt_logprobs,
  };
}

async function scoredCompletion(client: OpenAI, c: ReferenceCase): Promise<Scored> {
  const body = {
    model: MODEL,
    prompt: c.prompt ?? '',
    temperature: 0,
    max_tokens: c.output_ids.length,
    logprobs: TOP,
    ...EVERYTHING,
  };
  const answer = await client.completions.create(body);
  const choice = answer.choices[0] as OpenAI.CompletionChoice &
    ScoredChoice & { prompt_token_ids: number[]; prompt_logprobs: PromptLogprobs };
  return {
    promptIds: choice.prompt_token_ids,
    ids: choice.token_ids,
    top: choice.logprobs!.top_logprobs!.map(
      (top) => new Map(Object.entries(top).map(([name, logprob]) => [idOf(name), logprob])),
    ),
    prompt: choice.prompt_logprobs,
  };
}

test('the API gives the tokens and the logprobs of the reference implementation', async ({ startTestHub, context }) => {
  const { url } = await startTestHub({ nodeOptions: NODE_OPTIONS });
  await openReadyNode(context, url);
  const client = clientOf(url);
  const answers = await crowd(cases, cases.length, (c) =>
    c.messages ? scoredChat(client, c) : scoredCompletion(client, c),
  );
  for (const [i, { promptIds, ids, top, prompt }] of answers.entries()) {
    const c = cases[i]!;
    expect(promptIds).toEqual(c.input_ids);
    expect(ids).toEqual(c.output_ids);
    expect(top.length).toBe(c.steps.length);
    for (const [at, step] of c.steps.entries()) {
      const mine = top[at]!;
      const least = Math.min(...mine.values());
      for (const [id, logprob] of step.top) {
        // Of two nearly equal ones at the end of the list, another may be the fifth.
        expect(Math.abs((mine.get(id) ?? least) - logprob)).toBeLessThan(0.02);
      }
      expect(step.top.slice(0, TOP - 1).every(([id]) => mine.has(id))).toBe(true);
    }
    expect(prompt.length).toBe(c.input_ids.length);
    expect(prompt[0]).toBeNull();
    for (const [at, logprob] of c.prompt_logprobs.entries()) {
      const mine = prompt[at + 1]?.[String(c.input_ids[at + 1])];
      expect(Math.abs(mine!.logprob - logprob)).toBeLessThan(0.02);
    }
  }
});

/** 32 prompts of many lengths and settings, greedy and sampled. */
const STREAMS = Array.from({ length: 32 }, (_, i) => {
  const { input_ids } = cases[i % cases.length]!;
  return {
    model: MODEL,
    prompt: [...input_ids.slice(0, 5 + 3 * i), 40 + i],
    max_tokens: 40,
    ignore_eos: true,
    logprobs: 3,
    return_token_ids: true,
    temperature: i % 2 === 0 ? 0 : 0.9,
    seed: 1000 + i,
    top_k: i % 4 === 1 ? 40 : 0,
    top_p: i % 4 === 3 ? 0.9 : 1,
    repetition_penalty: i % 3 === 0 ? 1.2 : 1,
    presence_penalty: i % 5 === 0 ? 0.5 : 0,
  };
});

/** All that a stream says, but for id and time. */
async function streamed(client: OpenAI, body: (typeof STREAMS)[number], salt: string) {
  // Prompts of another salt share no cached blocks: everything is computed again.
  const stream = await client.completions.create({ ...body, stream: true, ...{ cache_salt: `${salt} ${body.seed}` } });
  const all = { text: '', ids: [] as number[], logprobs: [] as (number | null)[], top: [] as object[], finish: '' };
  for await (const chunk of stream) {
    const choice = chunk.choices[0] as (OpenAI.CompletionChoice & Partial<ScoredChoice>) | undefined;
    if (choice === undefined) continue;
    all.text += choice.text;
    all.ids.push(...(choice.token_ids ?? []));
    all.logprobs.push(...(choice.logprobs?.token_logprobs ?? []));
    all.top.push(...(choice.logprobs?.top_logprobs ?? []));
    all.finish = choice.finish_reason ?? all.finish;
  }
  return all;
}

test('32 streams at once are bit for bit what each of them is alone', async ({ startTestHub, context }) => {
  test.setTimeout(600_000);
  const { hub, url } = await startTestHub({ nodeOptions: NODE_OPTIONS });
  await keepWorkers(context);
  const page = await openReadyNode(context, url);
  const client = clientOf(url);

  const idle = await countersWhenIdle(hub);
  const alone = await crowd(STREAMS, 1, (body) => streamed(client, body, 'alone'));
  const between = await countersWhenIdle(hub);
  const together = await crowd(STREAMS, STREAMS.length, (body) => streamed(client, body, 'together'));
  const after = await countersWhenIdle(hub);

  expect(together).toEqual(alone);
  for (const { ids, logprobs, finish } of alone) {
    expect(ids.length).toBe(40);
    expect(logprobs.length).toBe(40);
    expect(finish).toBe('length');
  }
  expect(new Set(alone.map(({ text }) => text)).size).toBeGreaterThan(16);

  const [one, crowded] = [growth(idle, between), growth(between, after)];
  expect(one.decodeRows / one.steps).toBeLessThanOrEqual(1);
  expect(one.mixedSteps).toBe(0);
  expect(crowded.cachedTokens).toBe(0);
  expect(crowded.prefillRows).toBe(one.prefillRows);
  expect(crowded.decodeRows / crowded.steps).toBeGreaterThan(8);
  expect(crowded.mixedSteps).toBeGreaterThan(0);

  const steps = (await stepRecords(page)).slice(-crowded.steps);
  const steady = steps.filter(({ decodeRows, prefillRows }) => decodeRows > STREAMS.length / 2 && prefillRows === 0);
  expect(steady.length).toBeGreaterThan(0);
  const submits = (records: typeof steps) => records.reduce((sum, record) => sum + record.submits, 0);
  const overlapped = submits(steady.filter(({ inFlight }) => inFlight > 0));
  expect(overlapped / submits(steady)).toBeGreaterThanOrEqual(0.9);
});

test('a longer prompt with a shared prefix computes only its new tokens', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub({ nodeOptions: NODE_OPTIONS });
  await openReadyNode(context, url);
  const client = clientOf(url);
  const { input_ids } = cases.find((c) => c.input_ids.length > 200)!;
  const ask = (prompt: number[]) => client.completions.create({ model: MODEL, prompt, max_tokens: 1, temperature: 0 });
  const cached = (answer: OpenAI.Completion) => answer.usage?.prompt_tokens_details?.cached_tokens;

  const prefix = input_ids.slice(0, 96);
  expect(cached(await ask(prefix))).toBe(0);
  const before = await countersWhenIdle(hub);
  const longer = await ask(input_ids.slice(0, 133));
  const counted = growth(before, await countersWhenIdle(hub));
  expect(cached(longer)).toBe(96);
  expect(longer.usage?.prompt_tokens).toBe(133);
  expect(counted.prefillRows).toBe(133 - 96);
  expect(counted.cachedTokens).toBe(96);

  const other = await ask([input_ids[0]! + 1, ...input_ids.slice(1, 133)]);
  expect(cached(other)).toBe(0);
});

test('a client that goes away ends the computing', async ({ startTestHub, context }) => {
  const { hub, url } = await startTestHub({ nodeOptions: NODE_OPTIONS });
  await openReadyNode(context, url);
  const client = clientOf(url);
  const endless = { model: MODEL, prompt: 'Once upon a time', max_tokens: 1900, ignore_eos: true, temperature: 0 };
  const before = await countersWhenIdle(hub);
  const stream = await client.completions.create({ ...endless, stream: true });
  let chunks = 0;
  for await (const _chunk of stream) if (++chunks === 5) break;
  await expect.poll(() => hub.state().nodes[0]?.activeRequests, { intervals: [20] }).toBe(0);
  const stopped = await countersWhenIdle(hub);
  expect(growth(before, stopped).sampledTokens).toBeLessThan(endless.max_tokens);

  // Had the first one gone on, its tokens would be counted with the second one's.
  await client.completions.create({ ...endless, max_tokens: 30 });
  expect(growth(stopped, await countersWhenIdle(hub)).sampledTokens).toBe(30);
});
