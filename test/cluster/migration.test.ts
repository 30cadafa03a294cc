import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ScriptedNode, type ScriptedNodeOptions, scriptedTokens } from '../support/scripted-node.ts';
import { seriesValue } from '../support/series.ts';
import { startTestHub } from '../support/test-hub.ts';
import { until } from '../support/until.ts';

let hub: Hub;
let client: OpenAI;
let nodes: ScriptedNode[];

/** The hub's time stands still but where a test moves it. */
let clock: FakeClock;
async function start(...[config, limits]: Parameters<typeof startTestHub>): Promise<void> {
  await hub?.close();
  clock = new FakeClock();
  hub = await startTestHub(config, { migrationWaitMs: 5000, ...limits }, undefined, clock);
  client = new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
  nodes = [];
}
beforeEach(() => start());
afterEach(() => hub.close());

async function join(options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
  const node = await ScriptedNode.join(hub.url, { tokenMs: 2, ...options });
  nodes.push(node);
  return node;
}

interface Body {
  choices: {
    index: number;
    token_ids?: number[];
    text: string;
    logprobs: { tokens: string[] } | null;
    prompt_logprobs?: unknown[];
  }[];
  usage?: OpenAI.CompletionUsage;
  nvext?: { migrations: { attempt: number; from_node: string; to_node: string; numerics_changed: boolean }[] };
}
const PROMPT = [3, 1, 4, 1, 5];
const params = (more: object) => ({
  model: 'quire-pico',
  prompt: PROMPT,
  max_tokens: 20,
  ignore_eos: true,
  return_token_ids: true,
  ...more,
});

async function complete(more: object = {}): Promise<Body> {
  const body = params(more) as OpenAI.CompletionCreateParamsNonStreaming;
  return (await client.completions.create(body)) as unknown as Body;
}

/** Chunks of a stream, as they come. */
async function* chunks(more: object = {}): AsyncGenerator<Body> {
  const body = { ...params(more), stream: true } as OpenAI.CompletionCreateParamsStreaming;
  for await (const chunk of await client.completions.create(body)) yield chunk as unknown as Body;
}

/** The node that was asked last. */
function serving(): ScriptedNode {
  const id = hub.state().nodes.find(({ activeRequests }) => activeRequests > 0)?.id;
  return nodes.find((node) => node.id === id)!;
}

/** What an unbroken run of the request gives. */
function unbroken(prompt: number[], maxTokens = 20, choice = 0): number[] {
  const request = { prompt, sampling: { maxTokens } } as Parameters<typeof scriptedTokens>[0];
  return scriptedTokens(request, choice);
}

const metric = async (series: string): Promise<number> => (await seriesValue(hub.url, series)) ?? 0;
const migrated = (type: string) =>
  metric(`dynamo_frontend_model_migration_total{model="quire-pico",migration_type="${type}"}`);

describe('a node that dies', () => {
  it('G7: in the middle of each of 20 streams, three nodes give 20 complete and correct answers', async () => {
    for (let i = 0; i < 3; i++) await join();
    for (let i = 0; i < 20; i++) {
      const prompt = [i, 2 * i, 7];
      const tokens: number[] = [];
      const told: NonNullable<Body['nvext']>['migrations'] = [];
      let killed: ScriptedNode | null = null;
      for await (const chunk of chunks({ prompt })) {
        tokens.push(...(chunk.choices[0]?.token_ids ?? []));
        told.push(...(chunk.nvext?.migrations ?? []));
        if (killed !== null || tokens.length < 3) continue;
        // It served: what the client has came from it.
        killed = serving();
        killed.socket.terminate();
        await until(() => !hub.state().nodes.some(({ id }) => id === killed?.id));
      }
      expect(tokens).toEqual(unbroken(prompt));
      expect(told).toEqual([expect.objectContaining({ attempt: 1, from_node: killed?.id, numerics_changed: false })]);
      const [resumed] = nodes
        .flatMap((node) => node.of('generate'))
        .filter(({ attempt, generate }) => {
          return attempt === 1 && generate.prompt[0] === i && generate.prompt[1] === 2 * i;
        });
      expect(resumed?.generate.prompt).toEqual(prompt);
      const generated = resumed?.generate.choices[0]?.generated ?? [];
      expect(generated.length).toBeGreaterThanOrEqual(3);
      expect(generated).toEqual(unbroken(prompt).slice(0, generated.length));
      await join();
    }
    expect(await migrated('ongoing_request')).toBe(20);
    expect(await metric('quire_migration_numerics_changed_total{model="quire-pico"}')).toBe(0);
    expect(hub.state()).toMatchObject({ inflightRequests: 0, migrations: 20 });
  });

  it('G7: without streaming, usage, logprobs and prompt logprobs are those of one run, and a finished choice is not run again', async () => {
    const stop = unbroken(PROMPT, 20, 0)[2]!;
    const first = await join({ hangAfter: 5 });
    const asked = complete({ n: 2, logprobs: 0, prompt_logprobs: 0, stop_token_ids: [stop] });
    // Choice 0 ends with its third token.
    await until(() => first.quiet.length === 1);
    await first.heard();
    await join();
    first.socket.terminate();
    const answer = await asked;
    expect(answer.choices.map((choice) => choice.token_ids)).toEqual([
      unbroken(PROMPT, 20, 0).slice(0, 3),
      unbroken(PROMPT, 20, 1),
    ]);
    expect(answer.choices.map(({ logprobs }) => logprobs?.tokens.length)).toEqual([3, 20]);
    expect(answer.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 23, total_tokens: 28 });
    // Cached is what the first node had in its cache, not what the second one computed again.
    expect(answer.usage?.prompt_tokens_details?.cached_tokens).toBe(0);
    expect(answer.choices[0]?.prompt_logprobs).toHaveLength(PROMPT.length);
    const again = nodes.find((node) => node !== first)?.of('generate')[0]?.generate;
    expect(again?.choices).toEqual([{ choice: 1, generated: expect.any(Array) }]);
    expect(again?.sampling.promptLogprobs).toBeNull();
    expect(again?.sampling.maxTokens).toBe(20);
    expect(answer.nvext?.migrations).toHaveLength(1);
  });

  it('G7: before its first token, the request is new to the next node, and counted as such', async () => {
    const silent = await join({ reply: null });
    const asked = complete();
    await silent.next('generate');
    await join();
    silent.socket.terminate();
    expect((await asked).choices[0]?.token_ids).toEqual(unbroken(PROMPT));
    expect([await migrated('new_request'), await migrated('ongoing_request')]).toEqual([1, 0]);
  });

  it('G7: the end of a choice whose tokens are all there is not lost with its node', async () => {
    const node = await join({ reply: null });
    const asked = complete({ max_tokens: 2 });
    const { request } = (await node.next('generate')).generate;
    node.tokens({ request, attempt: 0, choice: 0, offset: 0, tokens: [5, 6] });
    await node.leave();
    expect((await asked).choices[0]).toMatchObject({ token_ids: [5, 6], finish_reason: 'length' });
    expect(await migrated('ongoing_request')).toBe(0);
  });

  it('a node that loads again (J10) loses its request to another one', async () => {
    await join();
    await join();
    const tokens: number[] = [];
    let told = false;
    for await (const chunk of chunks()) {
      tokens.push(...(chunk.choices[0]?.token_ids ?? []));
      if (told) continue;
      told = true;
      serving().send({ type: 'stage', stage: 'warming', detail: 'device lost', loadedBytes: 0, totalBytes: 0 });
    }
    expect(tokens).toEqual(unbroken(PROMPT));
    expect(await migrated('ongoing_request')).toBe(1);
  });
});

describe('a node that hangs', () => {
  it('G8: is left for another one, and is told to cancel', async () => {
    await start({}, { stallMs: 100 });
    const hung = await join({ hangAfter: 3 });
    const asked = complete();
    await until(() => hung.quiet.length === 1);
    await hung.heard();
    await join();
    clock.advance(100);
    expect((await asked).choices[0]?.token_ids).toEqual(unbroken(PROMPT));
    expect(await hung.next('cancel')).toMatchObject({ attempt: 0 });
    expect(await migrated('ongoing_request')).toBe(1);
  });

  it('G8: keeps the request where there is no other, and may wake up', async () => {
    await start({}, { stallMs: 20 });
    const node = await join({ reply: null });
    const asked = complete({ max_tokens: 2 });
    const { request } = (await node.next('generate')).generate;
    const frame = { request, attempt: 0, choice: 0 };
    node.tokens({ ...frame, offset: 0, tokens: [5] });
    await node.heard();
    clock.advance(200);
    node.tokens({ ...frame, offset: 1, tokens: [6], finish: 'length' });
    expect((await asked).choices[0]?.token_ids).toEqual([5, 6]);
    expect(node.of('cancel')).toEqual([]);
  });

  it('G8: is not one that computes steps for others', async () => {
    await start({}, { stallMs: 50 });
    const busy = await join({ reply: null });
    const asked = complete({ max_tokens: 2 });
    const { request } = (await busy.next('generate')).generate;
    const other = await join();
    const frame = { request, attempt: 0, choice: 0 };
    busy.tokens({ ...frame, offset: 0, tokens: [5] });
    for (let steps = 1; steps < 20; steps++) {
      busy.load({ steps });
      await busy.heard();
      clock.advance(49);
    }
    busy.tokens({ ...frame, offset: 1, tokens: [6], finish: 'length' });
    expect((await asked).choices[0]?.token_ids).toEqual([5, 6]);
    expect(other.of('generate')).toEqual([]);
  });
});

describe('failures that a node reports', () => {
  it('another node takes what one has no room for', async () => {
    const full = await join({ reply: null });
    const asked = complete();
    const { request } = (await full.next('generate')).generate;
    await join();
    full.send({ type: 'failed', epoch: 1, request, attempt: 0, code: 'overloaded', message: 'full' });
    expect((await asked).choices[0]?.token_ids).toEqual(unbroken(PROMPT));
    expect(full.of('generate')).toHaveLength(1);
  });

  it('what can never run is not tried elsewhere', async () => {
    const node = await join({ reply: null });
    const asked = expect(complete()).rejects.toMatchObject({ status: 400 });
    const { request } = (await node.next('generate')).generate;
    const other = await join();
    node.send({ type: 'failed', epoch: 1, request, attempt: 0, code: 'invalid_request', message: 'too long' });
    await asked;
    expect(other.of('generate')).toEqual([]);
  });
});

describe('bounds', () => {
  it('G9: --migration-limit attempts after the first, then the error', async () => {
    await start({ migrationLimit: 1 });
    for (let i = 0; i < 3; i++) await join();
    let kills = 0;
    const reading = (async () => {
      for await (const _ of chunks({ max_tokens: 200 })) {
        if (_.choices.length === 0 || kills === 2) continue;
        const node = serving();
        kills += 1;
        node.socket.terminate();
        await until(() => hub.state().nodes.length === 3 - kills);
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'node_lost' });
    expect(kills).toBe(2);
    expect(await migrated('ongoing_request')).toBe(1);
    expect(hub.state()).toMatchObject({ inflightRequests: 0, nodes: [{ activeSequences: 0 }] });
  });

  it('G9: with no node left it waits, so long and no longer', async () => {
    await start({}, { migrationWaitMs: 100 });
    const node = await join({ reply: null });
    const asked = expect(complete()).rejects.toMatchObject({ status: 503, code: 'node_lost' });
    await node.next('generate');
    node.socket.terminate();
    await until(() => hub.state().nodes.length === 0);
    clock.advance(99);
    expect(hub.state().inflightRequests).toBe(1);
    clock.advance(1);
    await asked;
    expect(hub.state().inflightRequests).toBe(0);
  });

  it('G9: the only node may have it again when it comes back', async () => {
    const node = await join({ hangAfter: 5 });
    const asked = complete();
    await until(() => node.quiet.length === 1);
    await node.heard();
    const { resumeToken } = node.welcome!;
    node.socket.terminate();
    await until(() => hub.state().nodes.length === 0);
    const back = await join({ hello: { resume: { node: node.id, token: resumeToken } } });
    expect(back.id).toBe(node.id);
    expect((await asked).choices[0]?.token_ids).toEqual(unbroken(PROMPT));
    expect((await back.next('generate')).attempt).toBe(1);
    expect((await back.next('generate')).generate.choices[0]?.generated).toHaveLength(5);
  });

  it('a client that leaves while its request waits leaves nothing behind', async () => {
    const node = await join({ reply: null });
    const leave = new AbortController();
    const body = params({}) as OpenAI.CompletionCreateParamsNonStreaming;
    const asked = expect(client.completions.create(body, { signal: leave.signal })).rejects.toThrow();
    await node.next('generate');
    node.socket.terminate();
    await until(() => hub.state().nodes.length === 0);
    leave.abort();
    await asked;
    await until(() => hub.state().inflightRequests === 0);
    const next = await join();
    await complete();
    expect(next.of('generate')).toHaveLength(1);
  });
});

describe('numerics', () => {
  it('G10: a node of the same numerics id is preferred, though it has more to do', async () => {
    const first = await join({ hangAfter: 5, card: { numericsId: 'a' } });
    const asked = complete();
    await until(() => first.quiet.length === 1);
    await first.heard();
    const other = await join({ card: { numericsId: 'b' } });
    const same = await join({ card: { numericsId: 'a', maxNumSeqs: 1 } });
    first.socket.terminate();
    expect((await asked).nvext?.migrations).toMatchObject([{ to_node: same.id, numerics_changed: false }]);
    expect(other.of('generate')).toEqual([]);
  });

  it.each([true, false])(
    'G10: elsewhere no token is lost, and response and metric say so (stream: %s)',
    async (stream) => {
      const first = await join({ hangAfter: 5, card: { numericsId: 'a' } });
      const bodies: Body[] = [];
      const asked = (async () => {
        if (stream) for await (const chunk of chunks()) bodies.push(chunk);
        else bodies.push(await complete());
      })();
      await until(() => first.quiet.length === 1);
      await first.heard();
      await join({ card: { numericsId: 'b' } });
      first.socket.terminate();
      await asked;
      expect(bodies.flatMap(({ choices }) => choices[0]?.token_ids ?? [])).toEqual(unbroken(PROMPT));
      expect(bodies.flatMap(({ nvext }) => nvext?.migrations ?? [])).toMatchObject([{ numerics_changed: true }]);
      expect(await metric('quire_migration_numerics_changed_total{model="quire-pico"}')).toBe(1);
    },
  );
});
