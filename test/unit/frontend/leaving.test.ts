import { describe, expect, test } from 'vitest';
import type { RequestLabels, RequestOutcome } from '../../../src/frontend/metrics.ts';
import { EOS, pico, ScriptedBackend, servedModel, testApi } from './support.ts';

const model = 'quire-pico';
const chat = { model, messages: [{ role: 'user' as const, content: 'Hi' }] };
const forever = () => Array<number>(2000).fill(40);

/** After `frames` frames a choice hangs until its signal aborts. */
function hanging(frames: number): ScriptedBackend {
  return new ScriptedBackend({
    tokens: forever,
    pause: (_, frame, signal) =>
      frame < frames
        ? undefined
        : new Promise((resolve) => {
            if (signal.aborted) resolve();
            else signal.addEventListener('abort', () => resolve());
          }),
  });
}

function recorder() {
  const labels: RequestLabels[] = [];
  const first: number[] = [];
  const inter: number[] = [];
  const outcomes: RequestOutcome[] = [];
  return {
    labels,
    first,
    inter,
    outcomes,
    metrics: {
      started(label: RequestLabels) {
        labels.push(label);
        return {
          firstToken: (seconds: number) => first.push(seconds),
          interToken: (seconds: number) => inter.push(seconds),
          generated() {},
          choiceEnded() {},
          finished: (outcome: RequestOutcome) => outcomes.push(outcome),
        };
      },
    },
  };
}

describe('a client that leaves', () => {
  test('in the middle of a stream: computing is told at once, though it hangs', async () => {
    const backend = hanging(3);
    const seen = recorder();
    const { post } = testApi([servedModel(backend)], seen);
    const response = await post('/v1/chat/completions', { ...chat, stream: true });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    // What one token gives comes at once: the first time also the chunk that says who speaks.
    for (let token = 0; token < 3; token++) await reader.read();
    expect(backend.signals[0]?.aborted).toBe(false);
    await reader.cancel();
    expect(backend.signals[0]?.aborted).toBe(true);
    await expect.poll(() => seen.outcomes).toHaveLength(1);
    expect(seen.outcomes[0]).toMatchObject({ status: 'cancelled', completionTokens: 3 });
    expect(backend.framesGiven).toBe(3);
  });

  test('of a stream that it never read', async () => {
    const backend = hanging(3);
    const seen = recorder();
    const { fetch } = testApi([servedModel(backend)], seen);
    const leaving = new AbortController();
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ ...chat, stream: true });
    const response = await fetch('/v1/chat/completions', {
      method: 'POST',
      ...{ headers, body, signal: leaving.signal },
    });
    expect(response.status).toBe(200);
    expect(seen.outcomes).toEqual([]);
    leaving.abort();
    await expect.poll(() => seen.outcomes).toMatchObject([{ status: 'cancelled', cause: 'disconnect' }]);
  });

  test('by the official client: stream.controller.abort()', async () => {
    const backend = hanging(2);
    const { client } = testApi([servedModel(backend)]);
    const stream = await client.chat.completions.create({ ...chat, stream: true, n: 2 });
    setTimeout(() => stream.controller.abort(), 20);
    for await (const _ of stream);
    await expect.poll(() => backend.signals[0]?.aborted).toBe(true);
  });

  test.each([false, true])('before anything came (stream: %s), with several prompts', async (stream) => {
    const backend = hanging(0);
    const seen = recorder();
    const { fetch } = testApi([servedModel(backend)], seen);
    const leaving = new AbortController();
    const asked = fetch('/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt: [[5], [6]], stream }),
      signal: leaving.signal,
    });
    await expect.poll(() => backend.signals).toHaveLength(2);
    leaving.abort();
    expect(backend.signals.map((signal) => signal.aborted)).toEqual([true, true]);
    await (await asked).body?.cancel();
    await expect.poll(() => seen.outcomes).toEqual([expect.objectContaining({ status: 'cancelled' })]);
  });

  test('in the middle of an answer that comes whole: no failure of the server', async () => {
    const backend = hanging(3);
    const seen = recorder();
    const { fetch, internalErrors } = testApi([servedModel(backend)], seen);
    const leaving = new AbortController();
    const asked = fetch('/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(chat),
      signal: leaving.signal,
    });
    await expect.poll(() => backend.framesGiven).toBe(3);
    leaving.abort();
    expect((await asked).status).toBe(499);
    expect(internalErrors).toEqual([]);
    expect(seen.outcomes).toEqual([expect.objectContaining({ status: 'cancelled', completionTokens: 3 })]);
  });

  test('a slow reader is not run ahead of', async () => {
    const backend = new ScriptedBackend({ tokens: forever });
    const { post } = testApi([servedModel(backend)]);
    const response = await post('/v1/chat/completions', { ...chat, stream: true });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(backend.framesGiven).toBeLessThan(5);
    await response.body?.cancel();
  });
});

describe('metrics', () => {
  test('time to first token, between tokens, totals; once a request', async () => {
    let clock = 1000;
    const seen = recorder();
    const backend = new ScriptedBackend({
      tokens: () => [...pico.encode('one two three', false), EOS],
      frame: 2,
      cached: 2,
      pause: () => {
        clock += 100;
      },
    });
    const { post } = testApi([servedModel(backend)], { ...seen, now: () => clock });
    await (await post('/v1/chat/completions', { ...chat, stream: true })).text();
    const tokens = pico.encode('one two three', false).length + 1;
    const frames = Math.ceil(tokens / 2);
    const lastFrame = tokens - (frames - 1) * 2;
    expect(seen.labels).toMatchObject([{ model, endpoint: 'chat_completions', stream: true }]);
    expect(seen.first).toEqual([0.1]);
    expect(seen.inter).toEqual([...Array<number>(frames - 2).fill(0.05), 0.1 / lastFrame]);
    expect(seen.outcomes).toEqual([
      {
        status: 'success',
        cause: null,
        seconds: (frames * 100) / 1000,
        promptTokens: backend.requests[0]?.prompt.length,
        cachedTokens: 2,
        completionTokens: tokens,
      },
    ]);
  });

  test('a failure counts as an error, a refused request not at all', async () => {
    const seen = recorder();
    const failing = {
      // biome-ignore lint/correctness/useYield: it fails before its first frame
      async *generate(): AsyncGenerator<never> {
        throw new Error('broken');
      },
    };
    const { post } = testApi([servedModel(failing)], seen);
    await post('/v1/chat/completions', chat);
    await post('/v1/chat/completions', { ...chat, model: 'none' });
    await post('/v1/chat/completions', { ...chat, n: 0 });
    expect(seen.outcomes.map((outcome) => outcome.status)).toEqual(['error']);
  });
});
