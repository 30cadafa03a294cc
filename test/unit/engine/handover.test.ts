import { describe, expect, it } from 'vitest';
import { EngineError, type KvReservation, type PrefillProgress } from '../../../src/engine/api.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { promptHashes } from '../../support/scripted-kv.ts';
import { SimulatedEngine, type SimulatedEngineOptions } from './simulated-engine.ts';
import { reference } from './simulated-gpu.ts';

const hasher = await createBlockHasher('xxh3');
const BLOCK = 4;
const PROMPT = Array.from({ length: 19 }, (_, i) => (i * 5) % 7);

const engineOf = (options: Partial<SimulatedEngineOptions> = {}) =>
  new SimulatedEngine({ hasher, totalBlocks: 16, blockSize: BLOCK, ...options });

function requestOf(request: string, prompt: readonly number[] = PROMPT, sampling: Partial<SamplingParams> = {}) {
  return {
    request,
    prompt: [...prompt],
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, maxTokens: 3, ...sampling },
  } satisfies GenerateRequest;
}

const section = (firstBlock: number, blocks: number, firstLayer = 0, layers = 2) => ({
  ...{ firstBlock, blocks, firstLayer, layers },
});

function reserve(engine: SimulatedEngine, prompt?: readonly number[]): KvReservation {
  const taken = engine.loop.reserve(requestOf('taken', prompt));
  if (typeof taken === 'string') throw new Error(taken);
  return taken;
}

/** Lets everything happen that waits for nothing. */
async function settle(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}

async function prefilled(engine: SimulatedEngine, id: string, prompt?: readonly number[]): Promise<PrefillProgress[]> {
  const told: PrefillProgress[] = [];
  engine.prefilled = (request, progress) => {
    expect(request).toBe(id);
    told.push(progress);
  };
  engine.loop.prefill(requestOf(id, prompt));
  await settle();
  return told;
}

/** KV of the whole prompt, as another engine computes it. */
async function payloadOf(blocks: number, prompt?: readonly number[]): Promise<Uint8Array> {
  const engine = engineOf();
  await prefilled(engine, 'other', prompt);
  return new Uint8Array(await engine.loop.export('other', section(0, blocks)));
}

describe('prefill', () => {
  it('tells each chunk, holds the full blocks until cancel, and gives no token', async () => {
    const engine = engineOf({ maxNumBatchedTokens: 8 });
    const told = await prefilled(engine, 'p');
    expect(told).toEqual([
      { blocks: 2, done: false, computedTokens: 8, cachedTokens: 0 },
      { blocks: 4, done: false, computedTokens: 16, cachedTokens: 0 },
      { blocks: 4, done: true, computedTokens: 19, cachedTokens: 0 },
    ]);
    expect([...engine.tokens.keys()]).toEqual([]);
    expect(engine.loop.load()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 4 });
    expect(engine.loop.load().counters).toMatchObject({ prefillRows: 19, sampledTokens: 0 });
    // What is held is not handed out, however much is asked for.
    expect(engine.loop.reserve(requestOf('large', new Array(51).fill(2)))).not.toBe('no_room');
    engine.loop.cancel('p');
    expect(engine.blocks.cachedBlocks).toBe(4);
    await expect(engine.loop.export('p', section(0, 1))).rejects.toThrow('request p: no prompt of this id is held');
  });

  it('tells what was in the prefix cache at admission, before anything is computed', async () => {
    const engine = engineOf();
    await prefilled(engine, 'first', PROMPT.slice(0, 10));
    engine.loop.cancel('first');
    const told = await prefilled(engine, 'second');
    expect(told).toEqual([
      { blocks: 2, done: false, computedTokens: 0, cachedTokens: 8 },
      { blocks: 4, done: true, computedTokens: 11, cachedTokens: 8 },
    ]);
    expect(engine.loop.load().counters).toMatchObject({ prefillRows: 21, cachedTokens: 8 });
  });

  it('refuses an id in use, a prompt too long, bad ids, and an engine without prefix cache', async () => {
    const engine = engineOf();
    engine.loop.prefill(requestOf('p'));
    expect(() => engine.loop.add(requestOf('p'))).toThrow('its id is in use');
    await settle();
    expect(() => engine.loop.prefill(requestOf('p'))).toThrow('its id is in use');
    expect(() => engine.loop.prefill(requestOf('q', new Array(64).fill(1)))).toThrow('context of 64');
    expect(() => engine.loop.prefill(requestOf('q', [99]))).toThrow('Token id 99 is outside');
    const plain = engineOf({ prefixCaching: false });
    expect(() => plain.loop.prefill(requestOf('p'))).toThrow('Enable prefix caching');
    expect(() => plain.loop.reserve(requestOf('p'))).toThrow('Enable prefix caching');
  });

  it('is never preempted: others are, and wait until the blocks are let go', async () => {
    const engine = engineOf({ totalBlocks: 10, maxNumBatchedTokens: 24 });
    // 5 blocks now, 10 in the end.
    engine.loop.add(requestOf('long', PROMPT, { maxTokens: 20 }));
    await prefilled(
      engine,
      'p',
      PROMPT.map((t) => (t + 1) % 7),
    );
    expect(engine.preemptions).toBeGreaterThan(0);
    expect(engine.finished.has('long')).toBe(false);
    expect(engine.loop.load().usedBlocks).toBeGreaterThanOrEqual(4);
    engine.loop.cancel('p');
    for (let i = 0; i < 20 && !engine.finished.has('long'); i++) await settle();
    expect(engine.tokens.get('long')).toEqual(reference(PROMPT, { ...GREEDY, maxTokens: 20 }, 64).tokens);
  });
});

describe('export', () => {
  it('refuses what is not computed, layers that are not there, and nothing at all', async () => {
    const engine = engineOf();
    await prefilled(engine, 'p');
    const refused = (s: ReturnType<typeof section>) => expect(engine.loop.export('p', s)).rejects;
    await refused(section(3, 2)).toThrow('blocks 3 to 4 are wanted, and 4 are computed');
    await refused(section(0, 0)).toThrow('4 are computed');
    await refused(section(-1, 1)).toThrow('4 are computed');
    await refused(section(0, 1, 1, 2)).toThrow('layers 1 to 2 are wanted, and the model has 2');
    await refused(section(0, 1, 0, 0)).toThrow('the model has 2');
    expect((await engine.loop.export('p', section(0, 1))).byteLength).toBe(4 * 4 * BLOCK);
  });
});

describe('reserve', () => {
  it('wants the full blocks before the last token that are not cached, by their chained hashes', async () => {
    const engine = engineOf();
    await prefilled(engine, 'p', PROMPT.slice(0, 9));
    engine.loop.cancel('p');
    const reservation = reserve(engine, PROMPT.slice(0, 16));
    // Block 3 holds the last token, which is computed here.
    expect(reservation.firstBlock).toBe(2);
    expect(reservation.hashes).toEqual(promptHashes(PROMPT, BLOCK).slice(2, 3));
    expect(engine.loop.load().usedBlocks).toBe(3);
    reservation.abort();
    reservation.abort();
    expect(engine.loop.load().usedBlocks).toBe(0);
    expect(engine.blocks.cachedBlocks).toBe(2);
    expect(engine.loop.reserve(requestOf('r', PROMPT.slice(0, 12)))).toBe('cached');
    expect(engine.loop.reserve(requestOf('r', [1, 2, 3, 4]))).toBe('cached');
  });

  it('takes nothing when too few blocks are free, and tells what it evicts', async () => {
    const engine = engineOf({ totalBlocks: 6 });
    await prefilled(engine, 'p');
    expect(engine.loop.reserve(requestOf('r', new Array(14).fill(3)))).toBe('no_room');
    expect(engine.loop.load().usedBlocks).toBe(4);
    engine.loop.cancel('p');
    const before = engine.replay.events.length;
    const reservation = reserve(engine, new Array(14).fill(3));
    expect(engine.replay.events.slice(before).map((e) => e.type)).toEqual(['removed']);
    reservation.abort();
  });

  it('is refused where the prompt must be computed here', () => {
    const engine = engineOf();
    expect(() => engine.loop.reserve(requestOf('r', PROMPT, { promptLogprobs: 0 }))).toThrow('logprobs of its prompt');
    expect(() => engine.loop.reserve(requestOf('r', new Array(64).fill(1)))).toThrow('the context has 64');
    expect(() => engine.loop.reserve(requestOf('r', [99]))).toThrow('Token id 99');
    expect(engine.loop.load().usedBlocks).toBe(0);
  });
});

describe('a reservation', () => {
  it('enters the cache with all of its bytes only, as stored events that an add in the same turn hits', async () => {
    const payload = await payloadOf(4);
    const engine = engineOf();
    const reservation = reserve(engine);
    expect(engine.replay.events).toEqual([]);
    expect(() => reservation.commit()).toThrow('8 of 8 parts (a block in one layer) were not written');
    reservation.write(section(0, 4), payload);
    expect(engine.replay.events).toEqual([]);
    reservation.commit();
    expect(engine.replay.events.map((e) => e.type)).toEqual(['stored']);
    expect(engine.blocks.snapshot().blocks.map(({ block }) => block.blockHash)).toEqual(promptHashes(PROMPT, BLOCK));
    engine.loop.add(requestOf('r'));
    await settle();
    expect(engine.tokens.get('r')).toEqual(reference(PROMPT, { ...GREEDY, maxTokens: 3 }, 64).tokens);
    expect(engine.loop.load().counters).toMatchObject({ prefillRows: 3, cachedTokens: 16 });
  });

  it('really serves the bytes that came: one flipped bit gives other tokens', async () => {
    const payload = await payloadOf(4);
    payload[0]! ^= 1;
    const engine = engineOf();
    const reservation = reserve(engine);
    reservation.write(section(0, 4), payload);
    reservation.commit();
    engine.loop.add(requestOf('r'));
    await settle();
    expect(engine.tokens.get('r')).not.toEqual(reference(PROMPT, { ...GREEDY, maxTokens: 3 }, 64).tokens);
  });

  it('refuses sections that are not its own, payloads of another length, and everything after its end', async () => {
    const engine = engineOf();
    const reservation = reserve(engine);
    const write = (s: ReturnType<typeof section>, bytes: number) => () => reservation.write(s, new Uint8Array(bytes));
    expect(write(section(3, 2), 128)).toThrow('blocks 3 to 4 are not among the 4 taken from 0 on');
    expect(write(section(0, 0), 0)).toThrow('blocks 0 to -1');
    expect(write(section(0, 1, 2, 1), 32)).toThrow("layers 2 to 2 are not among the model's 2");
    expect(write(section(0, 1), 60)).toThrow('the payload has 60 bytes, not 64');
    expect(() => reservation.commit()).toThrow('8 of 8 parts');
    write(section(0, 1), 64)();
    write(section(0, 1), 64)();
    expect(() => reservation.commit()).toThrow('6 of 8 parts');
    reservation.abort();
    expect(write(section(0, 1), 64)).toThrow('it has ended; late KV is not written');
    expect(() => reservation.commit()).toThrow('it has ended');
    expect(engine.replay.events).toEqual([]);
  });

  it('ends with the engine', async () => {
    const engine = engineOf();
    const reservation = reserve(engine);
    await engine.loop.close();
    expect(engine.loop.load().usedBlocks).toBe(0);
    expect(() => reservation.write(section(0, 1), new Uint8Array(64))).toThrow('it has ended');
    expect(() => engine.loop.reserve(requestOf('r'))).toThrow('The engine is closed');
    await expect(engine.loop.export('p', section(0, 1))).rejects.toThrow('The engine is closed');
  });

  it('is written after a step that was planned before its blocks changed hands', async () => {
    const payload = await payloadOf(4);
    let release = () => {};
    let held: Promise<void> | null = new Promise((resolve) => {
      release = resolve;
    });
    const engine = engineOf({ totalBlocks: 5, pause: async () => held ?? undefined, maxNumBatchedTokens: 24 });
    engine.loop.add(
      requestOf(
        'gone',
        PROMPT.map((t) => (t + 1) % 7),
        { maxTokens: 2 },
      ),
    );
    await settle();
    // Its step is planned and waits, as for a shader that compiles; now its blocks become others'.
    engine.loop.cancel('gone');
    const reservation = reserve(engine);
    const buffer = payload.slice();
    reservation.write(section(0, 4), buffer);
    buffer.fill(0); // the caller may use its buffer again
    reservation.commit();
    engine.loop.add(requestOf('r', PROMPT, { maxTokens: 2 }));
    held = null;
    release();
    await settle();
    expect(engine.tokens.get('r')).toEqual(reference(PROMPT, { ...GREEDY, maxTokens: 2 }, 64).tokens);
    expect(engine.loop.load().counters.prefillRows).toBe(19 + 3);
  });
});

describe('heartbeat', () => {
  const state = async (beat: Promise<void>) =>
    Promise.race([beat.then(() => 'beat'), settle().then(() => 'silent')]).catch((e: Error) => e.message);

  it('comes from an idle engine and from one at work', async () => {
    const engine = engineOf();
    expect(await state(engine.loop.heartbeat())).toBe('beat');
    engine.loop.add(requestOf('r', PROMPT, { maxTokens: 40 }));
    expect(await state(engine.loop.heartbeat())).toBe('beat');
  });

  it('does not come while the loop hangs, or the GPU', async () => {
    let release = () => {};
    let held: Promise<void> | null = null;
    const engine = engineOf({ pause: async () => held ?? undefined });
    held = new Promise((resolve) => {
      release = resolve;
    });
    engine.loop.add(requestOf('r'));
    await settle();
    const beat = engine.loop.heartbeat();
    expect(await state(beat)).toBe('silent');
    held = null;
    release();
    expect(await state(beat)).toBe('beat');

    engine.roundtrip = () => new Promise(() => {});
    expect(await state(engine.loop.heartbeat())).toBe('silent');
  });

  it('is refused with the reason once the engine is lost or closed, also to those who wait', async () => {
    const engine = engineOf();
    engine.roundtrip = () => new Promise(() => {});
    const waiting = engine.loop.heartbeat();
    await settle();
    engine.loop.lose(new EngineError('device_lost', 'gone'));
    engine.loop.lose(new EngineError('device_lost', 'gone twice'));
    expect(await state(waiting)).toBe('gone');
    expect(await state(engine.loop.heartbeat())).toBe('gone');
    expect(engine.lost.map((e) => e.message)).toEqual(['gone']);
    await engine.loop.close();
    const other = engineOf();
    await other.loop.close();
    expect(await state(other.loop.heartbeat())).toBe('The engine is closed.');
  });
});
