import { describe, expect, test } from 'vitest';
import { FakeClock } from '../../support/fake-clock.ts';
import { EOS, pico, ScriptedBackend, servedModel, testApi } from './support.ts';

const body = { model: 'quire-pico', prompt: [5], stream: true };
const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
const turn = () => new Promise((resolve) => setTimeout(resolve));

/** An API whose model says `words`, one each time that `say` is called. */
function waiting(keepAliveSeconds: number | null) {
  const clock = new FakeClock();
  const open: (() => void)[] = [];
  const backend = new ScriptedBackend({
    tokens: () => [...pico.encode('Hello there', false), EOS],
    pause: () => new Promise((resolve) => open.push(resolve)),
  });
  const after = (ms: number, task: () => void) => clock.after(ms, task);
  const { client, post } = testApi([servedModel(backend)], {
    after,
    ...(keepAliveSeconds === null ? {} : { keepAliveSeconds }),
  });
  const say = async () => {
    for (const go of open.splice(0)) go();
    await turn();
  };
  return { clock, client, post, say, backend };
}

describe('a stream in which nothing is said', () => {
  test('begins after the interval and gets comments, which are in no answer', async () => {
    const { clock, post, say } = waiting(10);
    const asked = post('/v1/completions', body);
    await turn();
    clock.advance(10_000);
    const response = await asked;
    expect(response.status).toBe(200);
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const next = async () => (await reader.read()).value;
    expect(await next()).toBe(': keep-alive\n\n');
    const second = next();
    clock.advance(10_000);
    expect(await second).toBe(': keep-alive\n\n');
    const third = next();
    await say();
    expect(await third).toContain('data: {');
    // Something was sent since the last look: no comment.
    clock.advance(10_000);
    let rest = '';
    for (let done = false; !done; await say()) {
      const read = await Promise.race([reader.read(), turn().then(() => null)]);
      if (read === null) continue;
      rest += read.value ?? '';
      done = read.done;
    }
    expect(rest).not.toContain('keep-alive');
    expect(rest.endsWith('data: [DONE]\n\n')).toBe(true);
    expect(clock.pending).toBe(0);
  });

  test('is read by the official client as if there were no comments', async () => {
    const { clock, client, say } = waiting(10);
    const asked = client.completions.create({ ...body, stream: true });
    await turn();
    clock.advance(10_000);
    let text = '';
    const read = (async () => {
      for await (const chunk of await asked) text += chunk.choices[0]?.text ?? '';
      return true;
    })();
    for (let ended = false; !ended; ended = (await Promise.race([read, turn()])) === true) {
      clock.advance(10_000);
      await say();
    }
    expect(text).toBe('Hello there');
  });

  test('what fails before the interval has its own status; later it is the last event', async () => {
    const failing = (ms: number) => {
      const clock = new FakeClock();
      const { post } = testApi(
        [
          servedModel({
            async *generate() {
              await new Promise<void>((resolve) => void clock.after(ms, resolve));
              throw new Error('broken');
            },
          }),
        ],
        { after: (wait, task) => clock.after(wait, task), keepAliveSeconds: 10 },
      );
      return { clock, asked: post('/v1/completions', body) };
    };
    const early = failing(5000);
    await turn();
    early.clock.advance(5000);
    expect((await early.asked).status).toBe(500);
    expect(early.clock.pending).toBe(0);
    const late = failing(15_000);
    await turn();
    late.clock.advance(10_000);
    const response = await late.asked;
    const text = response.text();
    await turn();
    late.clock.advance(5000);
    expect(response.status).toBe(200);
    expect(await text).toMatch(/^: keep-alive\n\ndata: \{"error":\{.*"code":"internal_error"\}\}\n\n$/);
  });

  test('leaves no timer behind when its client goes before it began, and nobody reads', async () => {
    const clock = new FakeClock();
    const backend = new ScriptedBackend({ tokens: () => [40], pause: (_, __, signal) => aborted(signal) });
    const after = (ms: number, task: () => void) => clock.after(ms, task);
    const { fetch } = testApi([servedModel(backend)], { after, keepAliveSeconds: 10 });
    for (const gone of [0, 10_000]) {
      const leaving = new AbortController();
      const asked = fetch('/v1/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: leaving.signal,
      });
      await turn();
      clock.advance(gone);
      await turn();
      leaving.abort();
      await asked;
      clock.advance(20_000);
      expect(clock.pending).toBe(0);
    }
  });

  test('without an interval waits for the first token', async () => {
    const { clock, post, say } = waiting(null);
    let answered = false;
    const asked = post('/v1/completions', body).then((response) => {
      answered = true;
      return response;
    });
    await turn();
    clock.advance(3_600_000);
    await turn();
    expect(answered).toBe(false);
    await say();
    await (await asked).body?.cancel();
  });
});
