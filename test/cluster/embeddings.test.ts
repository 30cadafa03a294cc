import OpenAI from 'openai';
import { afterEach, describe, expect, it } from 'vitest';
import { DEFAULT_CANARY } from '../../src/hub/health/payload.ts';
import type { Hub } from '../../src/hub/hub.ts';
import type { GenerateRequest } from '../../src/protocol/generate.ts';
import { type PoolingType, writeEmbedding } from '../../src/protocol/pooling.ts';
import { GpulessCluster } from '../support/gpuless-cluster.ts';
import { picoTokenizer } from '../support/pico-tokenizer.ts';
import { ScriptedNode } from '../support/scripted-node.ts';
import { startTestHub } from '../support/test-hub.ts';
import { pooledReference } from '../unit/engine/simulated-gpu.ts';

const HIDDEN = 256;
const pico = picoTokenizer();
const POOLING = { runner: 'pooling', config: null } as const;

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const clientOf = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });

async function start(...[config, limits]: Parameters<typeof startTestHub>): Promise<{ hub: Hub; client: OpenAI }> {
  const hub = await startTestHub({ pooler: POOLING, ...config }, { migrationWaitMs: 5000, ...limits });
  closing.push(() => hub.close());
  return { hub, client: clientOf(hub.url) };
}

/** What a simulated GPU makes of a prompt, averaged and normalized in float64. */
function wanted(prompt: readonly number[], type: PoolingType, normalize: boolean): number[] {
  const sums = pooledReference(prompt, type, HIDDEN).map((sum) => (type === 'MEAN' ? sum / prompt.length : sum));
  const length = normalize ? Math.sqrt(sums.reduce((total, value) => total + value * value, 0)) : 1;
  return sums.map((value) => Math.fround(value / length));
}

const ids = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + 7 * i);
const asked = { model: 'quire-pico', input: ids(300, 20) };

describe('the whole way, by the official client, to a node with everything but a GPU', () => {
  it.each([
    { type: 'LAST', normalize: true, config: null },
    { type: 'MEAN', normalize: false, config: { pooling_type: 'MEAN', use_activation: false } },
  ] as const)('$type, normalized: $normalize', async ({ type, normalize, config }) => {
    const cluster = await GpulessCluster.start({ pooler: { runner: 'pooling', config } });
    closing.push(() => cluster.close());
    const node = await cluster.join();
    const client = clientOf(cluster.url);
    const texts = ['Once upon a time', 'a', 'The quick brown fox jumps over the lazy dog and runs away', 'b c'];
    const prompts = texts.map((text) => pico.encode(text, true));
    // Decoded from base64 by the client, which asks for that.
    const answer = await client.embeddings.create({ model: 'quire-pico', input: texts });
    expect(answer.data.map(({ embedding }) => embedding)).toEqual(prompts.map((ids) => wanted(ids, type, normalize)));
    expect(answer.usage).toMatchObject({ prompt_tokens: prompts.flat().length, completion_tokens: 0 });
    // Prompts of one request shared a step, and none was followed by a decode.
    const steps = node.engine!.steps();
    expect(Math.max(...steps.map(({ rows }) => rows))).toBeGreaterThan(prompts[2]!.length);
    expect(steps.every(({ decodeRows }) => decodeRows === 0)).toBe(true);
    const float = await client.embeddings.create({ model: 'quire-pico', input: prompts, encoding_format: 'float' });
    expect(float.data).toEqual(answer.data);
    expect(node.faults).toEqual([]);
    expect(cluster.held()).toMatchObject({ requests: 0, sequencesRunning: 0, sequencesWaiting: 0, blocks: 0 });
    const series = 'endpoint="embeddings",request_type="unary",status="success"';
    expect(await cluster.metric('dynamo_frontend_requests_total', series)).toBe(2);
  });

  it('G15: is never sent to a prefill node first, and comes from any of many nodes', async () => {
    const cluster = await GpulessCluster.start({ pooler: POOLING });
    closing.push(() => cluster.close());
    const prefill = await cluster.join({ role: 'prefill' });
    await cluster.join({ role: 'decode' });
    const input = Array.from({ length: 40 }, (_, i) => ids(100 + i, 40));
    const answer = await clientOf(cluster.url).embeddings.create({ model: 'quire-pico', input });
    expect(answer.data.map(({ embedding }) => embedding)).toEqual(input.map((each) => wanted(each, 'LAST', true)));
    expect(prefill.steps).toBe(0);
  });

  it('a client that leaves takes all of its prompts from the node', async () => {
    const cluster = await GpulessCluster.start({ pooler: POOLING });
    closing.push(() => cluster.close());
    const node = await cluster.join({ stepMs: () => 5 });
    const leave = new AbortController();
    const input = Array.from({ length: 30 }, (_, i) => ids(100 + i, 100));
    const call = clientOf(cluster.url).embeddings.create({ model: 'quire-pico', input }, { signal: leave.signal });
    while (node.steps < 3) await new Promise((resolve) => setTimeout(resolve, 2));
    leave.abort();
    await expect(call).rejects.toThrow();
    const left = () => Object.values(node.cancelled).reduce((a, b) => a + b, 0);
    while (left() < 20) await new Promise((resolve) => setTimeout(resolve, 2));
    expect(node.faults).toEqual([]);
  });
});

/** An answer to a request that pools. */
const embedding = ({ request }: GenerateRequest, values: Float32Array | string, attempt = 0) => ({
  ...{ request, attempt, choice: 0, offset: 0, tokens: [], finish: 'length' as const },
  embedding: typeof values === 'string' ? values : writeEmbedding(values),
});
const VALUES = Float32Array.from({ length: HIDDEN }, (_, i) => i / 8);

describe('G15', () => {
  it('a node is asked for what the model is made for, and a lost one’s request goes to the next', async () => {
    const { hub, client } = await start();
    const first = await ScriptedNode.join(hub.url, { reply: null });
    expect(first.welcome!.model.pooler).toEqual({ type: 'LAST', normalize: true });
    const call = client.embeddings.create(asked);
    const { generate } = await first.next('generate');
    expect(generate).toMatchObject({
      prompt: asked.input,
      pooling: { type: 'LAST', normalize: true, dimensions: HIDDEN },
    });
    const second = await ScriptedNode.join(hub.url, { reply: null });
    await first.leave();
    const again = await second.next('generate');
    expect(again).toMatchObject({ attempt: 1, generate: { prompt: asked.input, pooling: generate.pooling } });
    second.tokens(embedding(again.generate, VALUES, 1));
    expect((await call).data[0]!.embedding).toEqual([...VALUES]);
  });

  it.each([
    ['too short', writeEmbedding(VALUES.subarray(1))],
    ['no numbers', writeEmbedding(Float32Array.from(VALUES, () => Number.NaN))],
    ['no base64', '*'.repeat(writeEmbedding(VALUES).length)],
  ])('an embedding that is %s closes its node, and another computes it', async (_, bad) => {
    const { hub, client } = await start();
    const liar = await ScriptedNode.join(hub.url, { reply: null });
    const call = client.embeddings.create(asked);
    const { generate } = await liar.next('generate');
    const honest = await ScriptedNode.join(hub.url, { reply: null });
    liar.tokens(embedding(generate, bad));
    expect((await liar.closed).reason).toContain('embedding');
    honest.tokens(embedding((await honest.next('generate')).generate, VALUES, 1));
    expect((await call).data[0]!.embedding).toEqual([...VALUES]);
  });

  it('tokens, or an end without its embedding, break the rule too', async () => {
    for (const wrong of [{ tokens: [5], finish: undefined }, { embedding: undefined }]) {
      const { hub, client } = await start({ migrationLimit: 0 });
      const node = await ScriptedNode.join(hub.url, { reply: null });
      const call = expect(client.embeddings.create(asked)).rejects.toMatchObject({ status: 503 });
      const { generate } = await node.next('generate');
      const { embedding: values, finish, ...frame } = { ...embedding(generate, VALUES), ...wrong };
      node.tokens({ ...frame, ...(values !== undefined && { embedding: values }), ...(finish && { finish }) });
      expect((await node.closed).reason).toContain('embedding');
      await call;
    }
  });
});

it('H1: a health check of a model for embeddings is one embedding', async () => {
  const { hub } = await start({ healthCheck: { waitMs: 100, timeoutMs: 60_000, payload: DEFAULT_CANARY } });
  const node = await ScriptedNode.join(hub.url, { reply: null });
  const { generate } = await node.next('generate');
  expect(generate).toMatchObject({ cache: false, pooling: { type: 'LAST', normalize: true, dimensions: HIDDEN } });
  node.tokens(embedding(generate, VALUES));
  const second = await node.next('generate', 1);
  expect(second.generate.request).not.toBe(generate.request);
  expect(hub.state().nodes[0]!.unhealthy).toBeNull();
});

describe('what is not served', () => {
  it('is refused: chats of a model for embeddings, embeddings of one that generates, and the endpoint where it is closed', async () => {
    const pooling = await start();
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    await expect(pooling.client.chat.completions.create({ model: 'quire-pico', messages })).rejects.toMatchObject({
      status: 400,
      param: 'model',
      message: expect.stringContaining('is an embedding model'),
    });
    const plain = await start({ pooler: { runner: 'auto', config: null } });
    await expect(plain.client.embeddings.create(asked)).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('--runner pooling'),
    });
    const closed = await start({ endpointTypes: ['chat', 'completions'] });
    await expect(closed.client.embeddings.create(asked)).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining('"embeddings" among --endpoint-types'),
    });
  });

  it('a pooler config is for models that pool', async () => {
    await expect(start({ pooler: { runner: 'auto', config: { pooling_type: 'MEAN' } } })).rejects.toThrow(
      '--pooler-config: none of the models is for embeddings. Start with --runner pooling, or leave it out.',
    );
  });
});
