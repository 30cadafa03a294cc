import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { LocalBackend } from '../../../src/node/local-backend.ts';
import type { GenerateRequest, TokensFrame } from '../../../src/protocol/generate.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { ScriptedEngine, scriptedToken } from '../../support/scripted-engine.ts';

const request = (id: string, maxTokens: number, choices = 1): GenerateRequest => ({
  request: id,
  prompt: [5, 6],
  choices: Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] })),
  sampling: { ...GREEDY, maxTokens },
});

const ANYWHERE = { node: null, rank: null, knobs: {} };

function setUp() {
  const backend = new LocalBackend();
  const engine = new ScriptedEngine(backend.listener);
  backend.use(engine);
  return { backend, engine };
}

async function collect(frames: AsyncIterable<TokensFrame>): Promise<TokensFrame[]> {
  const all: TokensFrame[] = [];
  for await (const frame of frames) all.push(frame);
  return all;
}

/** Lets readers take what is there, then steps, until `promise` settles. */
async function stepUntil<T>(engine: ScriptedEngine, promise: Promise<T>): Promise<T> {
  let over = false;
  const watched = promise.finally(() => {
    over = true;
  });
  watched.catch(() => {});
  for (let i = 0; i < 1000 && !over; i++) {
    engine.step();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return watched;
}

describe('the local backend', () => {
  test('gives every token of every choice once, in order, and ends', async () => {
    const { backend, engine } = setUp();
    const frames = await stepUntil(
      engine,
      collect(backend.generate(request('r', 5, 2), new AbortController().signal, ANYWHERE)),
    );
    for (const choice of [0, 1]) {
      const own = frames.filter((frame) => frame.choice === choice);
      expect(own.flatMap((frame) => frame.tokens)).toEqual(
        [0, 1, 2, 3, 4].map((o) => scriptedToken([5, 6], choice, o)),
      );
      expect(own.map((frame) => frame.offset)).toEqual([0, 1, 2, 3, 4]);
      expect(own.at(-1)?.finish).toBe('length');
    }
  });

  test('keeps requests apart', async () => {
    const { backend, engine } = setUp();
    const signal = new AbortController().signal;
    const both = Promise.all([
      collect(backend.generate(request('a', 3), signal, ANYWHERE)),
      collect(backend.generate(request('b', 6), signal, ANYWHERE)),
    ]);
    const [a, b] = await stepUntil(engine, both);
    expect([a.length, b.length]).toEqual([3, 6]);
    expect(new Set(a.map((frame) => frame.request))).toEqual(new Set(['a']));
  });

  test('a reader that aborts stops the engine, also while it waits', async () => {
    const { backend, engine } = setUp();
    const abort = new AbortController();
    const reading = collect(backend.generate(request('r', 1000), abort.signal, ANYWHERE));
    engine.step();
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort();
    expect(await reading).toHaveLength(1);
    expect(engine.load().running).toBe(0);
  });

  test('a reader that leaves in the middle stops the engine', async () => {
    const { backend, engine } = setUp();
    const frames = backend.generate(request('r', 1000), new AbortController().signal, ANYWHERE);
    const first = frames.next();
    engine.step();
    await first;
    await frames.return(undefined);
    expect(engine.load().running).toBe(0);
  });

  test('a request that can never run is a 400 with the engine’s words', async () => {
    const { backend } = setUp();
    const long = { ...request('r', 1), prompt: Array.from({ length: 999 }, () => 1) };
    await expect(collect(backend.generate(long, new AbortController().signal, ANYWHERE))).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining('999'),
    });
  });

  test('a lost engine fails what runs with 503, and what comes later', async () => {
    const { backend, engine } = setUp();
    const reading = collect(backend.generate(request('r', 1000), new AbortController().signal, ANYWHERE));
    await new Promise((resolve) => setImmediate(resolve));
    engine.lose('The GPU device was lost.');
    await expect(reading).rejects.toMatchObject({ status: 503, message: 'The GPU device was lost.' });
    await expect(
      collect(backend.generate(request('s', 1), new AbortController().signal, ANYWHERE)),
    ).rejects.toMatchObject({
      status: 503,
    });
  });

  test('one request that fails in the engine leaves the others', async () => {
    const { backend, engine } = setUp();
    const signal = new AbortController().signal;
    const failing = collect(backend.generate(request('bad', 1000), signal, ANYWHERE));
    const going = collect(backend.generate(request('good', 4), signal, ANYWHERE));
    await new Promise((resolve) => setImmediate(resolve));
    backend.listener.failed('bad', new EngineError('internal', 'a step failed'));
    await expect(failing).rejects.toMatchObject({ status: 503 });
    expect(await stepUntil(engine, going)).toHaveLength(4);
  });

  test('a request that names a node is a 400: here is none', async () => {
    const { backend } = setUp();
    const named = backend.generate(request('r', 1), new AbortController().signal, { node: 'n', rank: null, knobs: {} });
    await expect(collect(named)).rejects.toMatchObject({ status: 400 });
  });
});
