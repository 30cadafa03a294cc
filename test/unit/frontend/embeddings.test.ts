import { describe, expect, test } from 'vitest';
import type { Backend, ServedPooler } from '../../../src/frontend/backend.ts';
import { unavailable } from '../../../src/frontend/errors.ts';
import { loadChatTokenizer } from '../../../src/frontend/tokenizer.ts';
import { GenerateRequest, type TokensFrame } from '../../../src/protocol/generate.ts';
import { writeEmbedding } from '../../../src/protocol/pooling.ts';
import { PICO_FILES, pico, ScriptedBackend, saying, servedModel, testApi } from './support.ts';

const HIDDEN = 4;
/** A made-up embedding: of length and first token, not normalized, so that what the backend gives can be told from what is made of it. */
const valuesOf = ({ prompt, pooling }: GenerateRequest) =>
  [prompt.length, prompt[0]!, 0.1, -2].slice(0, pooling!.dimensions).map(Math.fround);

class PoolingBackend implements Backend {
  readonly requests: GenerateRequest[] = [];
  readonly signals: AbortSignal[] = [];
  running = 0;
  most = 0;

  constructor(
    private readonly before: (request: GenerateRequest, signal: AbortSignal) => Promise<void> | void = () => {},
  ) {}

  async *generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<TokensFrame, void, void> {
    this.requests.push(GenerateRequest.parse(request));
    this.signals.push(signal);
    this.most = Math.max(this.most, ++this.running);
    try {
      await this.before(request, signal);
      if (signal.aborted) return;
      const embedding = writeEmbedding(Float32Array.from(valuesOf(request)));
      yield {
        request: request.request,
        choice: 0,
        offset: 0,
        tokens: [],
        cachedTokens: 2,
        embedding,
        finish: 'length',
      };
    } finally {
      this.running--;
    }
  }
}

const POOLER: ServedPooler = { type: 'LAST', normalize: true, matryoshka: null };
function start(backend: Backend = new PoolingBackend(), pooler: ServedPooler = POOLER, more: object = {}) {
  const model = servedModel(backend, { hiddenSize: HIDDEN, pooler, maxModelLen: () => 16, ...more });
  return testApi([model]);
}
const asked = { model: 'quire-pico', input: 'Hi' };
const refused = async (body: object, pooler?: ServedPooler) => {
  const response = await start(undefined, pooler).post('/v1/embeddings', { ...asked, ...body });
  const { error } = (await response.json()) as { error: { message: string; param: string } };
  return { status: response.status, ...error };
};

describe('/v1/embeddings', () => {
  test.each([
    ['a text', 'Hi', [pico.encode('Hi', true)]],
    ['texts', ['Hi', 'Hello there'], [pico.encode('Hi', true), pico.encode('Hello there', true)]],
    ['ids', [7, 8, 9], [[7, 8, 9]]],
    ['lists of ids', [[7], [8, 9]], [[7], [8, 9]]],
  ])('%s: one embedding each, in their order, by the official client', async (_, input, prompts) => {
    const backend = new PoolingBackend();
    const answer = await start(backend).client.embeddings.create({ model: 'quire-pico', input });
    expect(backend.requests.map(({ prompt }) => prompt)).toEqual(prompts);
    expect(answer.data.map(({ index, object }) => [index, object])).toEqual(prompts.map((_ids, i) => [i, 'embedding']));
    expect(answer.data.map(({ embedding }) => embedding)).toEqual(backend.requests.map(valuesOf));
    const tokens = prompts.flat().length;
    expect(answer).toMatchObject({ object: 'list', model: 'quire-pico' });
    expect(answer.usage).toEqual({
      prompt_tokens: tokens,
      completion_tokens: 0,
      total_tokens: tokens,
      prompt_tokens_details: { cached_tokens: 2 * prompts.length },
    });
  });

  test('float and base64 are the same numbers', async () => {
    const { client } = start();
    const float = await client.embeddings.create({ ...asked, encoding_format: 'float' });
    const base64 = (await client.embeddings.create({ ...asked, encoding_format: 'base64' })).data[0]!
      .embedding as unknown as string;
    const bytes = Buffer.from(base64, 'base64');
    expect(float.data[0]!.embedding).toEqual([0, 1, 2, 3].map((i) => bytes.readFloatLE(4 * i)));
  });

  test('asks a node for what the model is made for, or what the request says', async () => {
    const backend = new PoolingBackend();
    const { post } = start(backend, { type: 'MEAN', normalize: true, matryoshka: 'any' });
    await post('/v1/embeddings', { ...asked, user: 'me', cache_salt: 's' });
    await post('/v1/embeddings', { ...asked, dimensions: 3, use_activation: false });
    expect(backend.requests.map(({ pooling, choices, cacheSalt }) => ({ pooling, choices, cacheSalt }))).toEqual([
      {
        pooling: { type: 'MEAN', normalize: true, dimensions: HIDDEN },
        choices: [{ choice: 0, generated: [] }],
        cacheSalt: 's',
      },
      {
        pooling: { type: 'MEAN', normalize: false, dimensions: 3 },
        choices: [{ choice: 0, generated: [] }],
        cacheSalt: undefined,
      },
    ]);
  });

  test('ends a text as the post-processor of its tokenizer says', async () => {
    // As that of Qwen3-Embedding.
    const post_processor = {
      type: 'Sequence',
      processors: [
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
        {
          type: 'TemplateProcessing',
          single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: '<|endoftext|>', type_id: 0 } }],
          pair: [],
          special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
        },
      ],
    };
    const tokenizer = loadChatTokenizer({
      ...PICO_FILES,
      tokenizerJson: { ...(PICO_FILES.tokenizerJson as object), post_processor },
    });
    const backend = new PoolingBackend();
    const { post } = start(backend, POOLER, { tokenizer });
    await post('/v1/embeddings', asked);
    await post('/v1/embeddings', { ...asked, add_special_tokens: false });
    // The end stays where a long text is cut.
    await post('/v1/embeddings', { ...asked, input: 'Hello there, all of you', truncate_prompt_tokens: 3 });
    await post('/v1/embeddings', {
      ...asked,
      input: 'a b c d e f g h i j k l m n o p q r',
      truncate_prompt_tokens: -1,
    });
    const plain = pico.encode('Hi', false);
    const prompts = backend.requests.map(({ prompt }) => prompt);
    expect(prompts.slice(0, 2)).toEqual([[...plain, 0], plain]);
    expect(prompts.slice(2).map((ids) => [ids.length, ids.at(-1)])).toEqual([
      [3, 0],
      [16, 0],
    ]);
  });

  test.each([
    ['input', { input: undefined }],
    ['input', { input: [] }],
    ['input[0]', { input: [[]] }],
    ['input', { input: [4096] }],
    ['input', { input: 'a b c d e f g h i j k l m n o p q r' }],
    ['input', { input: Array.from({ length: 2049 }, () => 'x') }],
    ['encoding_format', { encoding_format: 'hex' }],
    ['dimensions', { dimensions: 0 }],
    ['dimensions', { dimensions: 2 }],
    ['messages', { messages: [] }],
    ['embed_dtype', { embed_dtype: 'float16' }],
    ['endianness', { endianness: 'big' }],
    ['priority', { priority: 3 }],
    ['stream', { stream: true }],
  ])('refuses by name: %s', async (param, body) => {
    expect(await refused(body)).toMatchObject({ status: 400, param });
  });

  test('cuts embeddings where the model says that it may, and not else', async () => {
    expect((await refused({ dimensions: 2 })).message).toMatch(/does not say .*"is_matryoshka".*config\.json/);
    const some = { ...POOLER, matryoshka: [2, 3] };
    expect((await refused({ dimensions: 4 }, some)).message).toContain('may have 2, 3 dimensions, not 4');
    expect((await refused({ dimensions: 5 }, { ...POOLER, matryoshka: 'any' })).message).toContain(
      '4 dimensions at most',
    );
    const answer = await start(undefined, some).client.embeddings.create({ ...asked, dimensions: 2 });
    expect(answer.data[0]!.embedding.length).toBe(2);
  });

  test('computes many inputs at once, but not all of very many', async () => {
    const backend = new PoolingBackend(() => new Promise((resolve) => setTimeout(resolve, 1)));
    const input = Array.from({ length: 300 }, (_, i) => [i + 1]);
    const { data } = await start(backend).client.embeddings.create({ model: 'quire-pico', input });
    expect(data.map(({ embedding }) => embedding[1])).toEqual(input.map(([id]) => id));
    expect(backend.most).toBe(64);
  });

  test('one input that fails ends all', async () => {
    const backend = new PoolingBackend(async ({ prompt }, signal) => {
      if (prompt[0] === 5) throw unavailable('no node', 'node_lost');
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    });
    const input = Array.from({ length: 100 }, (_, i) => [i]);
    await expect(start(backend).client.embeddings.create({ model: 'quire-pico', input })).rejects.toMatchObject({
      status: 503,
      code: 'node_lost',
    });
    expect(backend.requests.length).toBe(64);
    await expect.poll(() => backend.running).toBe(0);
  });

  test('a client that leaves ends all', async () => {
    const backend = new PoolingBackend(
      (_, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    );
    const leave = new AbortController();
    const call = start(backend).client.embeddings.create({ ...asked, input: ['a', 'b'] }, { signal: leave.signal });
    while (backend.running < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    leave.abort();
    await expect(call).rejects.toMatchObject({ status: 499 });
    while (backend.running > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  });

  test('a backend that ends without an embedding, or with a bad one, is an error of the server', async () => {
    const bad: Backend = {
      async *generate({ request }) {
        yield { request, choice: 0, offset: 0, tokens: [], finish: 'length', embedding: 'AAAA' };
      },
    };
    const { post, internalErrors } = start(bad);
    expect((await post('/v1/embeddings', asked)).status).toBe(500);
    expect(internalErrors).toHaveLength(1);
  });

  test('is told in the metrics', async () => {
    const told: object[] = [];
    const model = servedModel(new PoolingBackend(), { hiddenSize: HIDDEN, pooler: POOLER });
    const metrics = {
      started: ({ endpoint, model, stream }: { endpoint: string; model: string; stream: boolean }) => ({
        firstToken() {},
        interToken() {},
        generated() {},
        choiceEnded() {},
        finished: (outcome: object) => told.push({ endpoint, model, stream, ...outcome }),
      }),
    };
    await testApi([model], { metrics }).post('/v1/embeddings', { ...asked, input: [[1, 2], [3]] });
    expect(told).toMatchObject([
      {
        ...{ endpoint: 'embeddings', model: 'quire-pico', stream: false, status: 'success', cause: null },
        ...{ promptTokens: 3, cachedTokens: 4, completionTokens: 0 },
      },
    ]);
  });
});

describe('a model does one thing', () => {
  test.each([
    ['/v1/chat/completions', { model: 'quire-pico', messages: [{ role: 'user', content: 'Hi' }] }],
    ['/v1/completions', { model: 'quire-pico', prompt: 'Hi' }],
  ])('one for embeddings refuses %s', async (path, body) => {
    const response = await start().post(path, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { param: 'model', message: expect.stringMatching(/is an embedding model.*\/v1\/embeddings/) },
    });
  });

  test('one that generates says how to start one for embeddings', async () => {
    const { client } = testApi([servedModel(new ScriptedBackend(saying('x')))]);
    await expect(client.embeddings.create(asked)).rejects.toMatchObject({
      status: 400,
      param: 'model',
      message: expect.stringContaining('--runner pooling'),
    });
  });

  test('both are listed as models', async () => {
    const models = await start().client.models.list();
    expect(models.data.map(({ id }) => id)).toEqual(['quire-pico']);
  });
});
