import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import type { RequestOutcome } from '../../../src/frontend/metrics.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { ScriptedBackend, servedModel, testApi } from './support.ts';

const body = { model: 'quire-pico', prompt: [5, 6, 7], max_tokens: 100 };

/** After `frames` frames of each choice it hangs until its signal aborts. */
function hanging(frames: number): ScriptedBackend {
  return new ScriptedBackend({
    tokens: () => Array<number>(100).fill(40),
    pause: (_, frame, signal) =>
      frame < frames
        ? undefined
        : new Promise((resolve) => {
            if (signal.aborted) resolve();
            else signal.addEventListener('abort', () => resolve());
          }),
  });
}

function setUp(frames: number, change: { timeoutSeconds?: number } = {}) {
  const backend = hanging(frames);
  const clock = new FakeClock();
  const outcomes: RequestOutcome[] = [];
  const metrics = {
    started: () => ({
      firstToken() {},
      interToken() {},
      generated() {},
      choiceEnded() {},
      finished: (outcome: RequestOutcome) => outcomes.push(outcome),
    }),
  };
  const after = clock.after.bind(clock);
  const api = testApi([servedModel(backend)], { metrics, after, ...change });
  const post = (more: object, headers: Record<string, string> = {}) =>
    api.fetch('/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ ...body, ...more }),
    });
  const remove = (id: string) => api.fetch(`/v1/requests/${id}`, { method: 'DELETE' });
  return { ...api, backend, clock, outcomes, post, remove };
}

async function errorOf(response: Response): Promise<unknown> {
  return ((await response.json()) as { error: unknown }).error;
}

describe('DELETE /v1/requests/{id}', () => {
  test('ends a stream by the id of its chunks: what came stays, the last event is the error, no [DONE]', async () => {
    const { client, backend, remove, outcomes } = setUp(3);
    const stream = await client.completions.create({ ...body, stream: true });
    let chunks = 0;
    const reading = (async () => {
      for await (const chunk of stream) {
        chunks += 1;
        if (chunks === 3) {
          const answer = await remove(chunk.id);
          expect(answer.status).toBe(200);
          expect(await answer.json()).toEqual({ id: chunk.id, object: 'request', status: 'cancelled' });
          expect(backend.signals[0]?.aborted).toBe(true);
        }
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'request_cancelled', message: /cancelled/ });
    expect(chunks).toBe(3);
    expect(outcomes).toEqual([expect.objectContaining({ status: 'cancelled', cause: 'api', completionTokens: 3 })]);
  });

  test('ends an answer that comes whole by the x-request-id that the client sent: 499, which no client tries again', async () => {
    const { backend, post, remove, internalErrors } = setUp(2);
    const asked = post({}, { 'x-request-id': 'mine-1' });
    await expect.poll(() => backend.framesGiven).toBe(2);
    expect((await remove('mine-1')).status).toBe(200);
    const answer = await asked;
    expect(answer.status).toBe(499);
    expect(await errorOf(answer)).toMatchObject({ code: 'request_cancelled' });
    expect(internalErrors).toEqual([]);
  });

  test('before the first token of a stream: 499 in place of the stream', async () => {
    const { backend, post, remove } = setUp(0);
    const asked = post({ stream: true }, { 'x-request-id': 'mine-2' });
    await expect.poll(() => backend.signals).toHaveLength(1);
    await remove('mine-2');
    expect((await asked).status).toBe(499);
  });

  test('while the prompts are still tokenized: nothing is computed', async () => {
    const { backend, post, remove } = setUp(0);
    const asked = post({ prompt: Array(50).fill('a b c') }, { 'x-request-id': 'early' });
    await expect.poll(async () => (await remove('early')).status).toBe(200);
    expect((await asked).status).toBe(499);
    expect(backend.framesGiven).toBe(0);
  });

  test('404 for an id that nobody runs: unknown, ended, or failed before it began', async () => {
    const { backend, post, remove } = setUp(0);
    const failed = await post({ logprobs: 1000 }, { 'x-request-id': 'wrong' });
    expect(failed.status).toBe(400);
    const asked = post({}, { 'x-request-id': 'ended' });
    await expect.poll(() => backend.signals).toHaveLength(1);
    await remove('ended');
    await asked;
    for (const id of ['unknown', 'ended', 'wrong']) {
      const answer = await remove(id);
      expect(answer.status).toBe(404);
      expect(await errorOf(answer)).toMatchObject({ code: 'request_not_found' });
    }
  });
});

describe('timeouts', () => {
  test("a request's own, by header x-request-timeout: 504, and the official client does not try again", async () => {
    const { backend, clock, fetch, outcomes } = setUp(4);
    let asked = 0;
    const client = new OpenAI({
      baseURL: 'http://quire.test/v1',
      apiKey: 'none',
      maxRetries: 2,
      fetch: (url, init) => {
        asked += 1;
        return fetch(String(url), init);
      },
    });
    const answer = client.completions.create(body, { headers: { 'x-request-timeout': '2.5' } });
    const refused = expect(answer).rejects.toMatchObject({ status: 504, code: 'timeout', message: /2\.5 seconds/ });
    await expect.poll(() => backend.framesGiven).toBe(4);
    clock.advance(2499);
    expect(backend.signals[0]?.aborted).toBe(false);
    clock.advance(1);
    expect(backend.signals[0]?.aborted).toBe(true);
    await refused;
    expect(asked).toBe(1);
    expect(outcomes).toEqual([expect.objectContaining({ status: 'cancelled', cause: 'timeout' })]);
  });

  test('in the middle of a stream: its last event', async () => {
    const { client, clock } = setUp(3);
    const stream = await client.completions.create(
      { ...body, stream: true },
      { headers: { 'x-request-timeout': '1' } },
    );
    let chunks = 0;
    const reading = (async () => {
      for await (const _ of stream) {
        chunks += 1;
        if (chunks === 3) clock.advance(1000);
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: 'timeout' });
    expect(chunks).toBe(3);
  });

  test.each([
    ['5', 3000],
    ['2', 2000],
    [null, 3000],
  ])("the lesser of the hub's bound of 3 seconds and the request's own %s", async (own, ms) => {
    const { backend, clock, post } = setUp(0, { timeoutSeconds: 3 });
    const asked = post({}, own === null ? {} : { 'x-request-timeout': own });
    await expect.poll(() => backend.signals).toHaveLength(1);
    clock.advance(ms - 1);
    expect(backend.signals[0]?.aborted).toBe(false);
    clock.advance(1);
    expect(backend.signals[0]?.aborted).toBe(true);
    expect((await asked).status).toBe(504);
  });

  test.each(['0', '-1', 'soon', '', '1e9', '604801', '1s'])('%j is no timeout: 400', async (text) => {
    const { post } = setUp(0);
    const answer = await post({}, { 'x-request-timeout': text });
    expect(answer.status).toBe(400);
    expect(await errorOf(answer)).toMatchObject({ param: 'x-request-timeout' });
  });
});
