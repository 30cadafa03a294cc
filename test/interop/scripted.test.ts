import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFailed } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import { startBridgedHub } from '../support/bridged-hub.ts';
import { type Deployment, DynamoFrontend, fileDeployment } from '../support/dynamo-frontend.ts';
import { picoTokenizer } from '../support/pico-tokenizer.ts';
import { PrefixCache } from '../support/prefix-cache.ts';
import { ScriptedNode, type ScriptedNodeOptions, scriptedTokens } from '../support/scripted-node.ts';
import { seriesSum } from '../support/series.ts';
import { PICO } from '../support/test-hub.ts';

/** A hub with nodes that only play their part, its bridge, and a real frontend of Dynamo before it. */

const MODEL = 'quire-pico';
/** A node that is lost is not waited for. */
const LONELY = { migrationWaitMs: 50 };
const hasher = await createBlockHasher('xxh3');
const tokenizer = picoTokenizer();
let deployment: Deployment;
let frontend: DynamoFrontend;
let hub: Hub;
const nodes: ScriptedNode[] = [];

beforeAll(async () => {
  deployment = await fileDeployment();
  hub = await startBridgedHub(deployment);
  frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
});
beforeEach(() => onTestFailed(() => console.log(frontend.output.slice(-8000))));
afterEach(async () => {
  for (const node of nodes.splice(0)) await node.leave();
  await frontend.until('all workers are gone', async () => (await frontend.workers()) === 0);
});
afterAll(async () => {
  await frontend?.close();
  await hub?.close();
  await deployment?.close();
});

/** A node that keeps a prefix cache and tells of it. */
async function join(options: ScriptedNodeOptions = {}, at = hub): Promise<ScriptedNode> {
  const cache = new PrefixCache(hasher, 16);
  const node: ScriptedNode = await ScriptedNode.join(at.url, {
    tokenMs: 1,
    reply(request, choice) {
      cache.compute(request.prompt);
      node.send({ type: 'kv_events', rank: 0, events: cache.takeEvents() });
      return scriptedTokens(request, choice);
    },
    ...options,
  });
  nodes.push(node);
  return node;
}

const client = (of = frontend) => new OpenAI({ baseURL: `${of.url}/v1`, apiKey: 'none', maxRetries: 0 });

interface Timed {
  readonly nvext?: { readonly timing?: { readonly kv_hit_rate?: number } };
}

const params = (content: string, more: object = {}) => ({
  model: MODEL,
  messages: [{ role: 'user' as const, content }],
  max_tokens: 8,
  ...more,
});

const ask = (content: string, more: object = {}) => client().chat.completions.create(params(content, more));

/** Hit rate of the prompt, as Dynamo's router had it. */
async function hitRate(content: string): Promise<number> {
  const answer = (await ask(content, { nvext: { extra_fields: ['timing'] } })) as Timed;
  return answer.nvext?.timing?.kv_hit_rate ?? 0;
}

/** How often routers asked for all that a node's prefix cache holds, and were answered. */
const recoveries = (): Promise<number> =>
  seriesSum(hub.url, 'dynamo_component_request_duration_seconds_count', '"worker_kv_query_');

/** Text of a streamed answer. seen: told of each piece. */
async function streamed(content: string, more: object, seen: (pieces: number) => void = () => {}): Promise<string> {
  const stream = await client().chat.completions.create({ ...params(content, more), stream: true });
  let text = '';
  let pieces = 0;
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.delta.content ?? '';
    if (piece === '') continue;
    text += piece;
    pieces += 1;
    seen(pieces);
  }
  return text;
}

/** How many requests each node got. */
const asked = () => nodes.map((node) => node.of('generate').length);

const LONG = Array.from({ length: 60 }, (_, i) => `Sheet ${i} of the quire is folded once.`).join(' ');

describe("a hub's nodes as workers of a real Dynamo frontend", () => {
  it('answer chats, whole and streamed, with the same text and usage', async () => {
    const node = await join();
    await frontend.serves(MODEL);
    const whole = await ask('Hi', { max_tokens: 20 });
    const [choice] = whole.choices;
    expect(choice?.finish_reason).toBe('length');
    expect(whole.usage).toMatchObject({ completion_tokens: 20 });
    expect(whole.usage?.prompt_tokens).toBe(node.of('generate')[0]?.generate.prompt.length);
    expect(choice?.message.content).not.toBe('');
    expect(await streamed('Hi', { max_tokens: 20 })).toBe(choice?.message.content);
  });

  it('stop when the client leaves', async () => {
    const node = await join({ tokenMs: 20 });
    await frontend.serves(MODEL);
    const abort = new AbortController();
    const stream = await client().chat.completions.create(
      { ...params('Hi', { max_tokens: 1000 }), stream: true },
      { signal: abort.signal },
    );
    for await (const _ of stream) {
      abort.abort();
      break;
    }
    const { request } = await node.next('cancel');
    expect(request).toBe(node.of('generate')[0]?.generate.request);
    await frontend.until('the hub has no request left', async () => hub.state().inflightRequests === 0);
  });

  it('get a prompt again that they hold, and after a restart of the frontend too', async () => {
    for (let i = 0; i < 3; i++) await join();
    await frontend.serves(MODEL, 3);
    expect(await hitRate(LONG)).toBe(0);
    const holder = asked().indexOf(1);
    // An event travels; then every one of them must hit.
    await frontend.until('the router knows the prompt', async () => (await hitRate(LONG)) > 0.9);
    const before = asked();
    for (let i = 0; i < 5; i++) expect(await hitRate(LONG)).toBeGreaterThan(0.9);
    expect(asked()).toEqual(before.map((count, at) => count + (at === holder ? 5 : 0)));

    await frontend.close();
    const recovered = await recoveries();
    expect(recovered).toBeGreaterThanOrEqual(3);
    frontend = await DynamoFrontend.start(deployment, '--router-mode', 'kv');
    await frontend.serves(MODEL, 3);
    // It asks each worker once, beside serving them.
    await frontend.until('its router was told what the nodes hold', async () => (await recoveries()) >= recovered + 3);
    expect(await hitRate(LONG)).toBeGreaterThan(0.9);
    expect(asked()[holder]).toBe((before[holder] ?? 0) + 6);
  });

  it('are replaced unseen when they are lost in the middle of a stream', async () => {
    const [one, other] = [await join({ tokenMs: 10 }), await join({ tokenMs: 10 })];
    await frontend.serves(MODEL, 2);
    const wanted = await streamed('Hi', { max_tokens: 60 });
    const begun = asked();
    const text = await streamed('Hi', { max_tokens: 60 }, (pieces) => {
      if (pieces !== 10) return;
      const serving = asked().findIndex((count, at) => count > (begun[at] ?? 0));
      nodes[serving]?.socket.terminate();
    });
    expect(text).toBe(wanted);
    expect(hub.state().migrations).toBeGreaterThan(0);
    expect([one, other].filter(({ socket }) => socket.readyState === socket.OPEN)).toHaveLength(1);
  });

  it('that are full get nothing while others are free (kv_metrics)', async () => {
    const [full, free] = [await join(), await join()];
    await frontend.serves(MODEL, 2);
    const response = await fetch(`${frontend.url}/busy_threshold`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, active_decode_blocks_threshold: 0.5 }),
    });
    expect(response.ok).toBe(true);
    full.load({}, { usedBlocks: 120 });
    free.load({}, { usedBlocks: 1 });
    await frontend.until('eight in a row go to the free one', async () => {
      const before = full.of('generate').length;
      for (let i = 0; i < 8; i++) await ask(`${i}`);
      return full.of('generate').length === before;
    });
    expect(free.of('generate').length).toBeGreaterThanOrEqual(8);
    full.load({}, { usedBlocks: 0 });
    free.load({}, { usedBlocks: 120 });
    await frontend.until('and the other way round', async () => {
      const before = free.of('generate').length;
      for (let i = 0; i < 8; i++) await ask(`${i}`);
      return free.of('generate').length === before;
    });
  });

  it('leave at once, and come again as others', async () => {
    const node = await join();
    await frontend.serves(MODEL);
    await node.leave();
    await frontend.until('the model is gone', async () => (await frontend.models()).length === 0, 8000);
    nodes.pop();
    await join();
    await frontend.serves(MODEL);
    expect((await ask('Hi')).usage?.completion_tokens).toBe(8);
  });

  it('of a hub that stops hand over to those of its successor', async () => {
    const first = await startBridgedHub(deployment, { drainSeconds: 30 });
    await join({ tokenMs: 10 }, first);
    await frontend.serves(MODEL);
    const text = streamed('Hi', { max_tokens: 100 });
    await frontend.until('it runs', async () => first.state().inflightRequests === 1);
    const closed = first.close();
    await frontend.until('its node is gone', async () => (await frontend.workers()) === 0, 8000);
    await join();
    await frontend.serves(MODEL);
    expect((await ask('Hi', { max_tokens: 100 })).choices[0]?.message.content).toBe(await text);
    expect(asked()).toEqual([1, 1]);
    await closed;
    nodes.shift();
  });
});

describe('what a card says', () => {
  it('has the ranks of a node, and a prompt goes to the rank that holds it', async () => {
    const caches = [new PrefixCache(hasher, 16), new PrefixCache(hasher, 16)];
    const node: ScriptedNode = await join({
      card: { dpSize: 2 },
      reply(request, choice) {
        const rank = node.of('generate').find(({ generate }) => generate === request)?.rank ?? 0;
        caches[rank]!.compute(request.prompt);
        node.send({ type: 'kv_events', rank, events: caches[rank]!.takeEvents() });
        return scriptedTokens(request, choice);
      },
    });
    await frontend.serves(MODEL);
    const ranks = () => node.of('generate').map(({ rank }) => rank);
    await frontend.until('both ranks were asked', async () => {
      await ask(`prompt ${ranks().length}`);
      return new Set(ranks()).size === 2;
    });
    expect(await hitRate(LONG)).toBeLessThan(0.5);
    const holder = ranks().at(-1);
    await frontend.until('the router knows the prompt', async () => (await hitRate(LONG)) > 0.9);
    for (let i = 0; i < 5; i++) expect(await hitRate(LONG)).toBeGreaterThan(0.9);
    expect(new Set(ranks().slice(-5))).toEqual(new Set([holder]));
  });

  it("brings the chat template that takes the place of the model's own", async () => {
    const other = await startBridgedHub(deployment, {
      models: [{ folder: PICO, servedName: 'pico-templated' }],
      chatTemplate: 'Q: {{ messages[0].content }}\nA:',
    });
    const node = await join({}, other);
    await frontend.serves('pico-templated');
    await ask('What is a quire?', { model: 'pico-templated' });
    expect(node.of('generate')[0]?.generate.prompt).toEqual(tokenizer.encode('Q: What is a quire?\nA:', false));
    await node.leave();
    nodes.pop();
    await other.close();
  });

  it('tells roles apart: nodes that only decode answer beside those that do both', async () => {
    await join();
    await join({ card: { role: 'decode' } });
    await frontend.serves(MODEL, 2);
    await frontend.until('both were asked', async () => {
      await ask(`prompt ${asked().join()}`);
      return asked().every((count) => count > 0);
    });
  });
});

describe('what the parsers of Dynamo find in the tokens of a node', () => {
  const EOS = 2;
  /** A node that says a text. */
  async function saying(text: string): Promise<void> {
    const ids = tokenizer.encode(text, false);
    await join({ reply: () => [...ids, EOS] });
    await frontend.serves(MODEL);
  }

  it('calls of tools, whole and streamed', async () => {
    await saying('<tool_call>\n{"name": "fold", "arguments": {"sheets": 8}}\n</tool_call>');
    const parameters = { type: 'object', properties: { sheets: { type: 'integer' } } };
    const tools = [{ type: 'function' as const, function: { name: 'fold', parameters } }];
    const { choices } = await ask('Fold', { tools, max_tokens: 100 });
    expect(choices[0]?.finish_reason).toBe('tool_calls');
    const called = choices[0]?.message.tool_calls?.map((call) => ('function' in call ? call.function : null));
    expect(called).toEqual([{ name: 'fold', arguments: expect.stringMatching(/^\{\s*"sheets":\s*8\s*\}$/) }]);
    const stream = await client().chat.completions.create({
      ...params('Fold', { tools, max_tokens: 100 }),
      stream: true,
    });
    let name = '';
    for await (const chunk of stream) name += chunk.choices[0]?.delta.tool_calls?.[0]?.function?.name ?? '';
    expect(name).toBe('fold');
  });

  it('reasoning, apart from the answer', async () => {
    await saying('<think>\nEight sheets.\n</think>\n\nA quire.');
    const { choices } = await ask('What is it?', { max_tokens: 100 });
    expect(choices[0]).toMatchObject({
      finish_reason: 'stop',
      message: { content: expect.stringContaining('A quire.') },
    });
    expect(choices[0]?.message.content).not.toContain('Eight');
    expect(choices[0]?.message).toMatchObject({ reasoning_content: expect.stringContaining('Eight sheets.') });
  });
});

describe('many streams at once', () => {
  it('200 of them, on four nodes, each whole', async () => {
    for (let i = 0; i < 4; i++) await join({ tokenMs: 5, card: { maxNumSeqs: 64 } });
    await frontend.serves(MODEL, 4);
    const wanted = await Promise.all([0, 1, 2, 3].map((i) => streamed(`stream ${i}`, { max_tokens: 16 })));
    const texts = await Promise.all(
      Array.from({ length: 200 }, (_, i) => streamed(`stream ${i % 4}`, { max_tokens: 16 })),
    );
    expect(texts).toEqual(texts.map((_, i) => wanted[i % 4]));
    expect(asked().every((count) => count > 0)).toBe(true);
    expect(hub.state().inflightRequests).toBe(0);
  });
});

describe('two hubs of one model, and a frontend in round-robin mode', () => {
  it('go on for each other, by way of Dynamo, where a hub has no other node', async () => {
    const alone = [await startBridgedHub(deployment, {}, LONELY), await startBridgedHub(deployment, {}, LONELY)];
    const roundRobin = await DynamoFrontend.start(deployment, '--router-mode', 'round-robin', '--migration-limit', '3');
    for (const each of alone) await join({ tokenMs: 10 }, each);
    await roundRobin.serves(MODEL, 2);
    const stream = await client(roundRobin).chat.completions.create({
      ...params('Hi', { max_tokens: 40 }),
      stream: true,
    });
    let pieces = 0;
    let finish: string | null = null;
    for await (const { choices } of stream) {
      pieces += 1;
      finish = choices[0]?.finish_reason ?? finish;
      if (pieces === 10) nodes.find((node) => node.of('generate').length > 0)?.socket.terminate();
    }
    expect(finish).toBe('length');
    const [first, second] = nodes
      .map((node) => node.of('generate')[0]?.generate)
      .sort((a, b) => (a?.prompt.length ?? 0) - (b?.prompt.length ?? 0));
    const carried = (second?.prompt.length ?? 0) - (first?.prompt.length ?? 0);
    expect(carried).toBeGreaterThan(0);
    expect(second?.sampling.maxTokens).toBe(40 - carried);
    for (const node of nodes.splice(0)) await node.leave();
    for (const each of alone) await each.close();
    await roundRobin.close();
  });
});

describe('two models of one hub', () => {
  it('get the requests of their own alone', async () => {
    const models = ['pico-a', 'pico-b'].map((servedName) => ({ folder: PICO, servedName }));
    const both = await startBridgedHub(deployment, { models });
    await join({}, both);
    await join({}, both);
    await frontend.until('both are served', async () => (await frontend.models()).length === 2);
    for (const model of ['pico-a', 'pico-b', 'pico-a', 'pico-a'])
      await ask('Hi', { model }).then((answer) => expect(answer.model).toBe(model));
    const held = nodes.map((node) => [node.welcome?.model.name, node.of('generate').length]);
    expect(Object.fromEntries(held)).toEqual({ 'pico-a': 3, 'pico-b': 1 });
    for (const node of nodes.splice(0)) await node.leave();
    await both.close();
  });
});
