import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { startBridgedHub } from '../support/bridged-hub.ts';
import { type Deployment, DynamoFrontend, fileDeployment } from '../support/dynamo-frontend.ts';
import { picoTokenizer } from '../support/pico-tokenizer.ts';
import { type HubMessageOf, ScriptedNode } from '../support/scripted-node.ts';

/** What the fields of OpenAI requests come to on a node, by way of a real frontend of Dynamo, and what their clients get. */

const MODEL = 'quire-pico';
const EOS = 2;
const tokenizer = picoTokenizer();
const words = (text: string) => tokenizer.encode(text, false);
const TEXT = 'Hello world, this is it.';

let deployment: Deployment;
let frontend: DynamoFrontend;
let hub: Hub;
let node: ScriptedNode;
let client: OpenAI;
/** What the node says, for each choice. */
let said: string[];
let seen = 0;

beforeAll(async () => {
  deployment = await fileDeployment();
  hub = await startBridgedHub(deployment, { priorities: true });
  node = await ScriptedNode.join(hub.url, { tokenMs: 1, reply: (_, choice) => [...words(said[choice] ?? ''), EOS] });
  frontend = await DynamoFrontend.start(deployment, '--router-mode', 'round-robin');
  await frontend.serves(MODEL);
  client = new OpenAI({ baseURL: `${frontend.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
beforeEach(() => {
  said = [TEXT];
  seen = node.of('generate').length;
});
afterAll(async () => {
  await frontend?.close();
  await node?.leave();
  await hub?.close();
  await deployment?.close();
});

const params = (more: object) => ({ model: MODEL, messages: [{ role: 'user' as const, content: 'Hi' }], ...more });
const ask = (more: object = {}) => client.chat.completions.create(params(more));
/** What the node was asked since the test began. */
const asked = (): HubMessageOf<'generate'>['generate'][] =>
  node
    .of('generate')
    .slice(seen)
    .map(({ generate }) => generate);

async function streamed(more: object): Promise<string> {
  let text = '';
  for await (const chunk of await client.chat.completions.create({ ...params(more), stream: true }))
    text += chunk.choices[0]?.delta.content ?? '';
  return text;
}

it('a stop string ends an answer to the character, whole and streamed, where it cuts tokens too', async () => {
  for (const [stop, text] of [
    ['world', 'Hello '],
    ['lo wor', 'Hel'],
    ['never', TEXT],
  ] as const) {
    const { choices, usage } = await ask({ stop: [stop] });
    expect(choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: text } });
    expect(await streamed({ stop: [stop] })).toBe(text);
    if (stop !== 'never') expect(usage?.completion_tokens).toBeLessThan(words(TEXT).length);
  }
  const { choices } = await ask({ stop: ['world'], include_stop_str_in_output: true });
  expect(choices[0]?.message.content).toBe('Hello world');
});

it("ids that end an answer are the client's own too, and have no text", async () => {
  const [first = 0, second = 0] = words(TEXT);
  const { choices, usage } = await ask({ stop_token_ids: [second] });
  expect(choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: tokenizer.word(first) } });
  expect(usage?.completion_tokens).toBe(2);
  expect(asked()[0]?.sampling.stopIds).toEqual(expect.arrayContaining([EOS, second]));
});

it('logprobs come with the text of each token, also where a stop string ended it', async () => {
  for (const stop of [['world'], undefined]) {
    const { choices } = await ask({ logprobs: true, top_logprobs: 2, stop });
    const content = choices[0]?.logprobs?.content ?? [];
    expect(content.length).toBeGreaterThanOrEqual(4);
    expect(content.map(({ token }) => token).join('')).toMatch(/^Hello world/);
    expect(content.every(({ logprob }) => logprob === -0.5)).toBe(true);
  }
  expect(asked().map(({ sampling }) => sampling.logprobs)).toEqual([2, 2]);
});

it('choices are apart, and counted together', async () => {
  said = ['One.', 'And another one.', 'Three'];
  const { choices, usage } = await ask({ n: 3 });
  expect(choices.sort((a, b) => a.index - b.index).map(({ message }) => message.content)).toEqual(said);
  expect(usage?.completion_tokens).toBe(said.reduce((sum, text) => sum + words(text).length + 1, 0));
  expect(asked()).toHaveLength(1);
  expect(asked()[0]?.choices).toHaveLength(3);
});

it('an answer that must be JSON, or a call, is held to a grammar on the node', async () => {
  const parameters = { type: 'object', properties: { sheets: { type: 'integer' } }, required: ['sheets'] };
  const json_schema = { name: 'quire', schema: parameters };
  said = ['{"sheets": 8}'];
  const { choices } = await ask({ response_format: { type: 'json_schema', json_schema } });
  expect(JSON.parse(choices[0]?.message.content ?? '')).toEqual({ sheets: 8 });
  said = ['[{"name": "fold", "parameters": {"sheets": 8}}]'];
  const tools = [{ type: 'function' as const, function: { name: 'fold', parameters } }];
  const called = await ask({ tools, tool_choice: 'required' });
  const call = called.choices[0]?.message.tool_calls?.[0];
  expect(call).toMatchObject({ function: { name: 'fold' } });
  expect(asked().map(({ grammar }) => grammar)).toEqual([
    expect.stringContaining('sheets'),
    expect.stringMatching(/fold.*sheets|sheets.*fold/s),
  ]);
});

it('options reach the node, a bound of tokens no further than the context', async () => {
  await ask({
    ...{ max_tokens: 2000, temperature: 0.5, top_p: 0.9, seed: 7, presence_penalty: 0.1, frequency_penalty: 0.2 },
    ...{ top_k: 5, min_p: 0.1, repetition_penalty: 1.1, min_tokens: 1 },
    nvext: { cache_salt: 'tenant-a', agent_hints: { priority: 3 } },
  });
  await ask();
  const [all, none] = asked();
  expect(all).toMatchObject({ cacheSalt: 'tenant-a', priority: -3 });
  expect(all?.sampling).toMatchObject({
    ...{ temperature: 0.5, topP: 0.9, seed: [7, 0], presencePenalty: 0.1, frequencyPenalty: 0.2 },
    ...{ topK: 5, minP: 0.1, repetitionPenalty: 1.1, minTokens: 1, maxTokens: 2000 },
  });
  expect(none).not.toHaveProperty('cacheSalt');
  expect(none?.sampling.maxTokens).toBe(2048 - (none?.prompt.length ?? 0));
  await ask({ max_tokens: 2048 });
  expect(asked()[2]?.sampling.maxTokens).toBe(none?.sampling.maxTokens);
});

it('what is not supported is a bad request with its name, and reaches no node', async () => {
  for (const fields of [{ prompt_logprobs: 1 }, { nvext: { max_thinking_tokens: 5 } }]) {
    // Not in the form that the client looks for.
    const response = await fetch(`${frontend.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(params(fields)),
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      message: expect.stringMatching(/'\w+\.(prompt_logprobs|max_thinking_tokens)' is not supported/),
    });
  }
  expect(asked()).toEqual([]);
});

it('completions of texts and of ids are computed as they are', async () => {
  const whole = await client.completions.create({ model: MODEL, prompt: 'Once', stop: ['world'] });
  expect(whole.choices[0]).toMatchObject({ text: 'Hello ', finish_reason: 'stop' });
  await client.completions.create({ model: MODEL, prompt: [5, 6, 7] });
  expect(asked().map(({ prompt }) => prompt)).toEqual([words('Once'), [5, 6, 7]]);
});

it('a frontend that vanishes in the middle of an answer stops the node, and leaves nothing behind', async () => {
  said = ['Sheets are folded once. '.repeat(500)];
  const other = await DynamoFrontend.start(deployment, '--router-mode', 'round-robin');
  try {
    await other.serves(MODEL);
    const of = new OpenAI({ baseURL: `${other.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const stream = await of.chat.completions.create({ ...params({}), stream: true });
    const cancels = node.of('cancel').length;
    const read = async () => {
      for await (const _ of stream) await other.close();
    };
    await expect(read()).rejects.toThrow();
    const { request } = await node.next('cancel', cancels);
    expect(request).toBe(asked()[0]?.request);
  } finally {
    await other.close();
  }
  await frontend.until('the hub has no request left', async () => hub.state().inflightRequests === 0);
  said = [TEXT];
  expect((await ask()).choices[0]?.message.content).toBe(TEXT);
});
