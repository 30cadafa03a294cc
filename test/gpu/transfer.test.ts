import { afterEach, describe, expect, test } from 'vitest';
import type { KvReservation, PrefillProgress } from '../../src/engine/api.ts';
import type { KvDtype } from '../../src/engine/kernels/dtype.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { type KvSection, MAX_PAYLOAD_BYTES, sectionBytes } from '../../src/protocol/transfer.ts';
import { type Collected, reference, TestEngine, type TestEngineOptions } from './test-engine.ts';

const LIMITS = { maxModelLen: 256, numGpuBlocksOverride: 96, maxNumSeqs: 8 };
const SAMPLING = { maxTokens: 16, logprobs: 3 };
/** 150 tokens of real text, of 9 full blocks of 16 and some. */
const PROMPT = reference.cases.flatMap(({ input_ids }) => input_ids).slice(0, 150);

const open: TestEngine[] = [];
afterEach(async () => {
  for (const engine of open.splice(0)) await engine.close();
});

async function engineOf(options: TestEngineOptions = {}): Promise<TestEngine> {
  const engine = await TestEngine.create({ ...LIMITS, ...options });
  open.push(engine);
  return engine;
}

function requestOf(request: string, prompt: readonly number[]) {
  return {
    request,
    prompt: [...prompt],
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, ...SAMPLING },
  };
}

interface Way {
  /** Cuts the blocks that can be exported now into sections. */
  readonly cut?: (firstBlock: number, blocks: number, layers: number) => KvSection[];
  /** What happens to a payload on the way. */
  readonly spoil?: (payload: Uint8Array) => void;
}

interface Moved {
  readonly bytes: number;
  readonly firstBlock: number;
  readonly blocks: number;
  /** Progress as it was told, and which of them came before the export of the first block was asked for. */
  readonly progress: PrefillProgress[];
  readonly exportsBeforeEnd: number;
}

const whole: Way['cut'] = (firstBlock, blocks, layers) => [{ firstBlock, blocks, firstLayer: 0, layers }];

/** Has `a` compute a prompt and moves what `b` wants of it, chunk by chunk. */
async function move(a: TestEngine, b: TestEngine, prompt: readonly number[], way: Way = {}): Promise<Moved> {
  const taken = b.engine.reserve(requestOf('decode', prompt));
  if (typeof taken === 'string') throw new Error(`nothing reserved: ${taken}`);
  const reservation: KvReservation = taken;
  const { firstBlock, hashes } = reservation;
  const { layers, layerBlockBytes } = a.engine.info;
  const progress: PrefillProgress[] = [];
  let next = firstBlock;
  let bytes = 0;
  let exportsBeforeEnd = 0;
  const copies: Promise<void>[] = [];
  await new Promise<void>((resolve) => {
    a.prefilled = (request, now) => {
      expect(request).toBe('transfer');
      progress.push(now);
      const end = Math.min(now.blocks, firstBlock + hashes.length);
      if (end > next) {
        for (const section of (way.cut ?? whole)!(next, end - next, layers)) {
          if (!now.done) exportsBeforeEnd++;
          copies.push(
            a.engine.export('transfer', section).then((buffer) => {
              expect(buffer.byteLength).toBe(sectionBytes(section, layerBlockBytes));
              const payload = new Uint8Array(buffer);
              way.spoil?.(payload);
              bytes += payload.length;
              reservation.write(section, payload);
            }),
          );
        }
        next = end;
      }
      if (now.done) resolve();
    };
    a.engine.prefill(requestOf('transfer', prompt));
  });
  await Promise.all(copies);
  reservation.commit();
  a.engine.cancel('transfer');
  return { bytes, firstBlock, blocks: hashes.length, progress, exportsBeforeEnd };
}

const known = new Map<string, Promise<Collected>>();
/** What one engine alone gives, without prefix cache. Neither blocks nor chunks change it, so that each dtype is asked once. */
function aggregated(prompt: readonly number[], kvCacheDtype: KvDtype = 'f32'): Promise<Collected> {
  const key = `${kvCacheDtype} ${prompt}`;
  const one =
    known.get(key) ??
    engineOf({ kvCacheDtype, maxModelLen: 800, enablePrefixCaching: false }).then((e) => e.one(prompt, SAMPLING));
  known.set(key, one);
  return one;
}

describe.each(['f32', 'f16', 'bf16', 'int8'] as const)(
  'KV of %s, computed on one engine and moved to another',
  (kvCacheDtype) => {
    test('gives the tokens and logprobs of one engine alone, bit for bit', async () => {
      const options = { kvCacheDtype, maxNumBatchedTokens: 48 };
      const expected = await aggregated(PROMPT, kvCacheDtype);
      const [a, b] = [await engineOf(options), await engineOf({ ...options, freeOrder: backwards(96) })];
      const moved = await move(a, b, PROMPT);
      const { layers, layerBlockBytes } = a.engine.info;
      expect(moved).toMatchObject({ firstBlock: 0, blocks: 9, bytes: 9 * layers * 2 * layerBlockBytes });
      // The prompt took several steps, and blocks of the first left before the last was done.
      expect(moved.exportsBeforeEnd).toBeGreaterThanOrEqual(2);
      expect(moved.progress.at(-1)).toEqual({ blocks: 9, done: true, computedTokens: 150, cachedTokens: 0 });
      expect(a.engine.load().counters).toMatchObject({ prefillRows: 150, sampledTokens: 0 });

      const got = await b.one(PROMPT, SAMPLING);
      expect(got).toEqual({ ...expected, cachedTokens: 144 });
      expect(b.engine.load().counters).toMatchObject({ prefillRows: 6, cachedTokens: 144 });
      expect(b.engine.steps().reduce((sum, s) => sum + s.prefillRows, 0)).toBe(6);
    });
  },
);

test('a prompt that the decode side has in part is moved from there on, in sections of layers, backwards', async () => {
  const options = { maxNumBatchedTokens: 64 };
  const expected = await aggregated(PROMPT);
  const [a, b] = [await engineOf(options), await engineOf(options)];
  const before = await b.one(PROMPT.slice(0, 70), SAMPLING);
  expect(before.cachedTokens).toBe(0);
  const sections: KvSection[] = [];
  const moved = await move(a, b, PROMPT, {
    cut: (firstBlock, blocks, layers) => {
      const cuts = Array.from({ length: layers }, (_, layer) => [0, 1].map((odd) => ({ layer, odd }))).flat();
      const half = Math.floor(blocks / 2);
      const made = cuts
        .map(({ layer, odd }) => ({
          ...{ firstLayer: layers - 1 - layer, layers: 1 },
          ...(odd ? { firstBlock, blocks: half } : { firstBlock: firstBlock + half, blocks: blocks - half }),
        }))
        .filter((section) => section.blocks > 0);
      sections.push(...made);
      return made;
    },
  });
  expect(moved).toMatchObject({ firstBlock: 4, blocks: 5 });
  expect(Math.max(...sections.map((section) => section.layers))).toBe(1);
  expect(sections.length).toBeGreaterThanOrEqual(2 * a.engine.info.layers);
  expect(await b.one(PROMPT, SAMPLING)).toEqual({ ...expected, cachedTokens: 144 });
  expect(b.engine.load().counters.prefillRows).toBe(70 + 6);

  // What came from elsewhere is cache like any other: found again, and handed on.
  const c = await engineOf(options);
  const computed = b.engine.load().counters.prefillRows;
  const again = await move(b, c, PROMPT);
  expect(again.progress.at(-1)).toEqual({ blocks: 9, done: true, computedTokens: 6, cachedTokens: 144 });
  expect(b.engine.load().counters.prefillRows).toBe(computed + 6);
  expect(await c.one(PROMPT, SAMPLING)).toEqual({ ...expected, cachedTokens: 144 });
});

test.each([8, 64])('blocks of %i tokens', async (blockSize) => {
  const options = { blockSize, maxNumBatchedTokens: 64, numGpuBlocksOverride: 2048 / blockSize };
  const expected = await aggregated(PROMPT);
  const [a, b] = [await engineOf(options), await engineOf(options)];
  const blocks = Math.floor(149 / blockSize);
  expect(await move(a, b, PROMPT)).toMatchObject({ firstBlock: 0, blocks });
  expect(await b.one(PROMPT, SAMPLING)).toEqual({ ...expected, cachedTokens: blocks * blockSize });
  expect(b.engine.load().counters.prefillRows).toBe(150 - blocks * blockSize);
});

test('the bytes that came are those that attention reads: K and V of each layer count', async () => {
  const options = { maxNumBatchedTokens: 64 };
  const [a, b] = [await engineOf(options), await engineOf(options)];
  const { layers, layerBlockBytes } = a.engine.info;
  for (const [at, [layer, part]] of (
    [
      [0, 0],
      [0, 1],
      [layers - 1, 0],
      [layers - 1, 1],
    ] as const
  ).entries()) {
    const prompt = [70 + at, ...PROMPT];
    await move(a, b, prompt, {
      spoil: (payload) => {
        // The sign of the first number of the section's first block, in that layer's K or V.
        const blocks = payload.length / (layers * 2 * layerBlockBytes);
        payload[(2 * layer + part) * blocks * layerBlockBytes + 3]! ^= 0x80;
      },
    });
    const clean = await a.one(prompt, SAMPLING);
    const got = await b.one(prompt, SAMPLING);
    expect([clean.cachedTokens, got.cachedTokens]).toEqual([144, 144]);
    expect(got.logprobs).not.toEqual(clean.logprobs);
  }
});

test('copies run beside steps, and sections larger than the staging buffer are refused', async () => {
  const options = { maxNumBatchedTokens: 128, maxModelLen: 800, numGpuBlocksOverride: 112 };
  const [a, b] = [await engineOf(options), await engineOf(options)];
  const long = Array.from({ length: 720 }, (_, i) => PROMPT[(i * 7) % PROMPT.length]!);
  const { layers, layerBlockBytes } = a.engine.info;
  const fitting = Math.floor(MAX_PAYLOAD_BYTES / (layers * 2 * layerBlockBytes));
  expect(fitting).toBeLessThan(44);
  const crowd = [a, b].map((engine) => engine.one(PROMPT, { ...SAMPLING, maxTokens: 40 }));
  const moved = await move(a, b, long, {
    cut: (firstBlock, blocks) =>
      Array.from({ length: Math.ceil(blocks / 3) }, (_, i) => ({
        ...{ firstBlock: firstBlock + i * 3, blocks: Math.min(3, blocks - i * 3), firstLayer: 0, layers },
      })),
  });
  expect(moved.blocks).toBe(44);
  const [one, other] = await Promise.all(crowd);
  expect(one).toEqual(other);
  expect(one!.tokens.slice(0, 16)).toEqual((await aggregated(PROMPT)).tokens);
  expect(await b.one(long, SAMPLING)).toEqual({ ...(await aggregated(long)), cachedTokens: 704 });

  await new Promise<void>((resolve) => {
    a.prefilled = (_, { done }) => (done ? resolve() : undefined);
    a.engine.prefill(requestOf('whole', long));
  });
  const wide = { firstBlock: 0, blocks: fitting + 1, firstLayer: 0, layers };
  await expect(a.engine.export('whole', wide)).rejects.toThrow(
    '43 blocks in 6 layers are 4227072 bytes of KV; one section has at most',
  );
  const half = await a.engine.export('whole', { ...wide, layers: layers / 2 });
  expect(half.byteLength).toBe((wide.blocks * layers * 2 * layerBlockBytes) / 2);
});

test('a heartbeat comes from a real queue, and not from a device that is gone', async () => {
  const engine = await engineOf();
  await engine.engine.heartbeat();
  const running = engine.one(PROMPT, SAMPLING);
  await engine.engine.heartbeat();
  await running;
  const refused = expect(engine.engine.heartbeat()).rejects.toThrow('The engine is closed');
  await engine.engine.close();
  await refused;
  await expect(engine.engine.heartbeat()).rejects.toThrow('The engine is closed');
});

function backwards(blocks: number): Uint32Array {
  return Uint32Array.from({ length: blocks }, (_, i) => blocks - 1 - i);
}
