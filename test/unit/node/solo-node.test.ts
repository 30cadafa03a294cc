import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { EngineError, type EngineListener } from '../../../src/engine/api.ts';
import type { EngineIdentity } from '../../../src/node/engine-offer.ts';
import { listenerOf, Ranks } from '../../../src/node/ranks.ts';
import { SnapshotFeed } from '../../../src/node/snapshot-feed.ts';
import type { SoloSource } from '../../../src/node/solo-model.ts';
import { SoloNode } from '../../../src/node/solo-node.ts';
import type { ModelOffer } from '../../../src/protocol/messages.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { folderFiles } from '../../support/folder-files.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';

const files = folderFiles(fileURLToPath(new URL('../../../models/quire-pico', import.meta.url)));
const manifest: ModelOffer = files.offer;

let server: Server;
let origin = '';

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === '/manifest.json') response.end(JSON.stringify(manifest));
    else if (request.url === '/broken.json') response.end('{"name":');
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  origin = `http://127.0.0.1:${address.port}`;
});

afterAll(() => {
  server.close();
});

function setUp(
  start?: (listener: EngineListener) => Promise<ScriptedEngine>,
  { manifestUrl = `${origin}/manifest.json`, query = '', source = null as SoloSource | null } = {},
) {
  const feed = new SnapshotFeed(new FakeClock(), () => {});
  const engines: ScriptedEngine[] = [];
  const offers: EngineIdentity[] = [];
  const node = new SoloNode({
    source: source ?? { kind: 'manifest', url: manifestUrl },
    query,
    feed,
    now: () => 0,
    openFiles: async () => files,
    startEngine: async ({ offer }, listener) => {
      offers.push(offer);
      const owner = listenerOf(listener, 0);
      const engine = start ? await start(owner) : new ScriptedEngine(owner, { vocabSize: 4096 });
      engines.push(engine);
      return new Ranks([engine]);
    },
  });
  return { feed, engines, offers, node };
}

const chat = (body: object) =>
  new Request('http://solo.invalid/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }], model: manifest.name, ...body }),
  });

describe('a page without a hub whose model shall give embeddings', () => {
  const embed = (body: object) =>
    new Request('http://solo.invalid/v1/embeddings', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: manifest.name, ...body }),
    });

  test('answers with them, and with no chat', async () => {
    const query = 'runner=pooling&pooler-config={"pooling_type":"MEAN"}';
    const { engines, offers, node } = setUp(undefined, { query });
    await node.start();
    expect(offers[0]).toMatchObject({
      model: { pooler: { type: 'MEAN', normalize: true } },
      options: { runner: 'pooling', 'pooler-config': '{"pooling_type":"MEAN"}' },
    });
    const ticking = setInterval(() => engines[0]?.step(), 1);
    const response = await node.fetch(embed({ input: [[5, 6], [7]] }));
    clearInterval(ticking);
    const { data } = (await response.json()) as { data: { embedding: number[] }[] };
    expect(data.map(({ embedding }) => [embedding.length, ...embedding.slice(0, 2)])).toEqual([
      [256, 5, 6],
      [256, 7, 7],
    ]);
    expect((await node.fetch(chat({}))).status).toBe(400);
    await node.leave();
  });

  test('refuses a pooler config for a model that generates', async () => {
    const { feed, node } = setUp(undefined, { query: 'pooler-config={"pooling_type":"MEAN"}' });
    await node.start();
    expect(feed.current).toMatchObject({
      stage: 'refused',
      problem: { message: expect.stringContaining('runner=pooling') },
    });
  });
});

describe('a page without a hub', () => {
  test('answers the API with its own engine, tokens and all', async () => {
    const { feed, engines, node } = setUp();
    expect((await node.fetch(chat({}))).status).toBe(503);
    await node.start();
    expect(feed.current).toMatchObject({ stage: 'ready', model: manifest.name });
    const answer = node.fetch(chat({ max_tokens: 5, ignore_eos: true, return_token_ids: true }));
    const ticking = setInterval(() => engines[0]?.step(), 1);
    const response = await answer;
    clearInterval(ticking);
    expect(response.status).toBe(200);
    const body = (await response.json()) as {
      usage: { completion_tokens: number };
      choices: { token_ids: number[] }[];
    };
    expect(body.usage.completion_tokens).toBe(5);
    const first = body.choices[0]?.token_ids[0] ?? -1;
    expect(body.choices[0]?.token_ids).toEqual([0, 1, 2, 3, 4].map((offset) => (first + offset * 13) % 4096));
  });

  test('answers responses and messages too, and keeps a response to go on with', async () => {
    const { engines, node } = setUp();
    await node.start();
    const ask = async (path: string, body: object) => {
      const init = { method: 'POST', headers: { 'content-type': 'application/json' } };
      const asked = { model: manifest.name, ...body };
      const request = new Request(`http://solo.invalid/v1/${path}`, { ...init, body: JSON.stringify(asked) });
      return (await (await node.fetch(request)).json()) as { id: string };
    };
    const ticking = setInterval(() => engines[0]?.step(), 1);
    const first = await ask('responses', { input: 'Hi', max_output_tokens: 3 });
    expect(first).toMatchObject({ object: 'response', status: 'incomplete', usage: { output_tokens: 3 } });
    const next = await ask('responses', { input: 'And?', previous_response_id: first.id, max_output_tokens: 3 });
    expect(next).toMatchObject({ previous_response_id: first.id, usage: { output_tokens: 3 } });
    const messages = [{ role: 'user', content: 'Hi' }];
    const message = await ask('messages', { messages, max_tokens: 3 });
    expect(message).toMatchObject({ type: 'message', stop_reason: 'max_tokens', usage: { output_tokens: 3 } });
    clearInterval(ticking);
    await node.leave();
  });

  test('takes block size, hash and default sampling from its own address: there is no hub to ask', async () => {
    const query = '?block-size=32&prefix-caching-hash-algo=sha256&generation-config=vllm';
    const { engines, offers, node } = setUp(undefined, { query });
    await node.start();
    expect(offers).toMatchObject([{ blockSize: 32, hashAlgo: 'sha256', options: { 'generation-config': 'vllm' } }]);
    const engine = engines[0] as ScriptedEngine;
    const added = vi.spyOn(engine, 'add');
    // The model's own defaults are 0.7, 0.95 and 40.
    const answer = node.fetch(chat({ max_tokens: 1 }));
    const ticking = setInterval(() => engine.step(), 1);
    expect((await answer).status).toBe(200);
    clearInterval(ticking);
    expect(added.mock.calls[0]?.[0].sampling).toMatchObject({ temperature: 1, topP: 1, topK: 0 });
  });

  test.each([
    ['/nowhere.json', /404.*whole folder/],
    ['/broken.json', /cannot be read/],
  ])('says so when the manifest is not right: %s', async (path, words) => {
    const { feed, engines, node } = setUp(undefined, { manifestUrl: `${origin}${path}` });
    await node.start();
    expect(feed.current).toMatchObject({ stage: 'refused', problem: { code: 'model' } });
    expect(feed.current.problem?.message).toMatch(words);
    expect(engines).toHaveLength(0);
  });

  test('answers with a model of files that a person gave it', async () => {
    const folder = fileURLToPath(new URL('../../../models/quire-pico', import.meta.url));
    const given = files.offer.files.map(({ path }) => new File([readFileSync(`${folder}/${path}`)], path));
    const source: SoloSource = { kind: 'files', name: 'mine', files: given };
    const { feed, offers, node } = setUp(undefined, { source });
    await node.start();
    expect(feed.current).toMatchObject({ stage: 'ready', model: 'mine', problem: null });
    expect(offers[0]?.model.name).toBe('mine');
    const models = await node.fetch(new Request('http://solo.invalid/v1/models'));
    expect(await models.json()).toMatchObject({ data: [{ id: 'mine' }] });

    const bare = setUp(undefined, {
      source: { ...source, files: given.filter((file) => file.name !== 'config.json') },
    });
    await bare.node.start();
    expect(bare.feed.current).toMatchObject({ stage: 'refused', problem: { code: 'model' } });
    expect(bare.feed.current.problem?.message).toMatch(/^mine: it has no config\.json/);
    expect(bare.engines).toHaveLength(0);
  });

  test('an engine that does not start shows why', async () => {
    const { feed, node } = setUp(async () => {
      throw new EngineError('no_adapter', 'WebGPU found no adapter.');
    });
    await node.start();
    expect(feed.current).toMatchObject({ stage: 'refused', problem: { code: 'no_adapter' } });
  });

  test('leaving while it loads closes the engine that comes late, and shows nothing of it', async () => {
    const { feed, engines, node } = setUp(async (listener) => {
      await node.leave();
      return new ScriptedEngine(listener);
    });
    await node.start();
    expect(engines[0]?.closed).toBe(true);
    expect(feed.current.stage).toBe('idle');
  });

  test('a lost device ends it, with the reason', async () => {
    const { feed, engines, node } = setUp();
    await node.start();
    engines[0]?.lose('The GPU device was lost.');
    expect(feed.current).toMatchObject({ stage: 'gone', loads: null, problem: { code: 'device_lost' } });
    expect((await node.fetch(chat({}))).status).toBe(503);
  });
});
