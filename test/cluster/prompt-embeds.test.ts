import OpenAI from 'openai';
import { afterEach, expect, it } from 'vitest';
import type { Hub } from '../../src/hub/hub.ts';
import { NO_ID } from '../../src/protocol/prompt-embeds.ts';
import { DisaggregatedHub } from '../support/disaggregated-hub.ts';
import { embeddingRows, floatBytes } from '../support/embedding-rows.ts';
import { Gate } from '../support/gate.ts';
import { ScriptedNode, scriptedTokens } from '../support/scripted-node.ts';
import { PICO, startTestHub } from '../support/test-hub.ts';
import { torchFile } from '../support/torch-file.ts';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function start(...[config, limits]: Parameters<typeof startTestHub>): Promise<{ hub: Hub; client: OpenAI }> {
  const hub = await startTestHub(config, { migrationWaitMs: 5000, ...limits });
  closing.push(() => hub.close());
  return { hub, client: new OpenAI({ baseURL: `${hub.url}/v1`, apiKey: 'none', maxRetries: 0 }) };
}

const IDS = Array.from({ length: 40 }, (_, i) => 300 + 7 * i);
const { hidden, rows } = embeddingRows(PICO, IDS);
const DATA = floatBytes(rows, 'f32');
const file = (tokens: number, data: Uint8Array) =>
  Buffer.from(torchFile({ dtype: 'f32', shape: [tokens, hidden], data })).toString('base64');
const EMBEDS = file(IDS.length, DATA);

/** The body as vLLM's clients send it with OpenAI's own: it wants a prompt. */
const asked = (more: object = {}) =>
  ({
    ...{ model: 'quire-pico', prompt: '', max_tokens: 20, ignore_eos: true },
    ...{ prompt_embeds: EMBEDS, return_token_ids: true },
    ...more,
  }) as OpenAI.CompletionCreateParamsNonStreaming;
const idsOf = (completion: OpenAI.Completion, choice = 0) =>
  (completion.choices[choice] as unknown as { token_ids: number[] }).token_ids;

it("is off by default, in vLLM's words", async () => {
  const { client } = await start();
  await expect(client.completions.create(asked())).rejects.toMatchObject({
    status: 400,
    param: 'prompt_embeds',
    message: expect.stringContaining('ValueError: You must set --enable-prompt-embeds to input prompt_embeds'),
  });
});

it('G13: brings the rows to a node, byte for byte, and to the next one when that is lost', async () => {
  const { hub, client } = await start({ promptEmbeds: true });
  const nodes = [
    await ScriptedNode.join(hub.url, { hangAfter: 8 }),
    await ScriptedNode.join(hub.url, { hangAfter: 8 }),
  ];
  const answer = client.completions.create(asked());
  const first = await Promise.race(nodes.map((node) => node.next('generate').then(() => node)));
  const { generate } = await first.next('generate');
  expect(generate.prompt).toEqual(IDS.map(() => NO_ID));
  expect(generate.embeds!.dtype).toBe('f32');
  expect(Buffer.from(generate.embeds!.data, 'base64').equals(DATA)).toBe(true);

  const second = await ScriptedNode.join(hub.url);
  for (const node of nodes) if (node !== first) await node.leave();
  await first.leave();
  const completion = await answer;
  const again = (await second.next('generate')).generate;
  expect(again.embeds).toEqual(generate.embeds);
  expect(again.choices[0]!.generated.length).toBeGreaterThan(0);
  expect(idsOf(completion)).toEqual(scriptedTokens(generate, 0));
  expect(completion.usage).toMatchObject({ prompt_tokens: IDS.length, completion_tokens: 20 });
});

it('G13: embeddings come first, texts after them, each in a request of its own', async () => {
  const { hub, client } = await start({ promptEmbeds: true });
  const node = await ScriptedNode.join(hub.url);
  const completion = await client.completions.create(
    asked({ prompt: [[5, 6]], prompt_embeds: [EMBEDS, file(2, DATA.slice(0, 8 * hidden))], n: 2 }),
  );
  const requests = [0, 1, 2].map((nth) => node.of('generate')[nth]!.generate);
  expect(requests.map(({ embeds, prompt }) => [embeds === undefined, prompt.length])).toEqual([
    [false, 40],
    [false, 2],
    [true, 2],
  ]);
  for (const choice of [0, 1, 2, 3, 4, 5])
    expect(idsOf(completion, choice)).toEqual(scriptedTokens(requests[Math.floor(choice / 2)]!, choice % 2));
});

it('G13: names what is wrong with them, in the way that clients see', async () => {
  const { client } = await start({ promptEmbeds: true });
  const wrong = Buffer.from(torchFile({ dtype: 'f32', shape: [2, 3], data: new Uint8Array(24) })).toString('base64');
  await expect(client.completions.create(asked({ prompt_embeds: wrong }))).rejects.toMatchObject({
    status: 400,
    param: 'prompt_embeds',
    message: expect.stringContaining(`rows have 3 values, and the embeddings of this model have ${hidden}`),
  });
  await expect(client.completions.create(asked({ prompt_embeds: 'A'.repeat((20 << 20) + 4) }))).rejects.toMatchObject({
    status: 413,
  });
});

it('G13: a decode node computes them itself, however willing prefill nodes are', async () => {
  const cluster = await DisaggregatedHub.start({}, {}, { promptEmbeds: true });
  closing.push(() => cluster.close());
  const { prefill, decode } = await cluster.willing();
  const many = Array.from({ length: 4 }, () => [...DATA]).flat();
  const client = new OpenAI({ baseURL: `${cluster.hub.url}/v1`, apiKey: 'none', maxRetries: 0 });
  await client.completions.create(asked({ prompt_embeds: file(160, Uint8Array.from(many)) }));
  const message = await decode.next('generate');
  expect(message.generate.prompt).toHaveLength(160);
  expect(message.prefill).toBeUndefined();
  expect(prefill.of('prefill')).toEqual([]);
  // The same length in ids goes there.
  await client.completions.create({
    model: 'quire-pico',
    prompt: Array.from({ length: 160 }, (_, i) => i),
    max_tokens: 2,
  });
  expect(prefill.of('prefill')).toHaveLength(1);
});

it('a node that has not read what was sent to it is not sent more than it may have, and stays', async () => {
  const { hub, client } = await start({ promptEmbeds: true }, { maxBufferedBytes: 1 << 20 });
  const node = await ScriptedNode.join(hub.url);
  await expect(client.completions.create(asked())).rejects.toMatchObject({ status: 503, code: 'overloaded' });
  await client.completions.create({ model: 'quire-pico', prompt: [1, 2], max_tokens: 2 });
  expect(node.of('generate')).toHaveLength(1);
});

it('keeps embeddings of running requests only, and no more of them than it may', async () => {
  const { hub, client } = await start({ promptEmbeds: true }, { maxEmbedsBytes: 100_000 });
  const gate = new Gate();
  const node = await ScriptedNode.join(hub.url, { gate });
  const running = client.completions.create(asked());
  await node.next('generate');
  await expect(client.completions.create(asked())).rejects.toMatchObject({ status: 503, code: 'overloaded' });
  gate.open();
  await running;
  await client.completions.create(asked());
  expect(node.of('generate')).toHaveLength(2);
});
