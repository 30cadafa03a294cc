import { afterEach, describe, expect, test } from 'vitest';
import type { KvReservation, PrefillProgress } from '../../src/engine/api.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { type KvSection, sectionBytes } from '../../src/protocol/transfer.ts';
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
  expect(a.engine.load().usedBlocks).toBe(0);
  expect(b.engine.load().usedBlocks).toBe(0);
  return { bytes, firstBlock, blocks: hashes.length, progress, exportsBeforeEnd };
}

async function aggregated(prompt: readonly number[], options: TestEngineOptions): Promise<Collected> {
  const engine = await engineOf({ ...options, enablePrefixCaching: false });
  return engine.one(prompt, SAMPLING);
}

describe.each(['f32', 'f16', 'bf16'] as const)(
  'KV of %s, computed on one engine and moved to another',
  (kvCacheDtype) => {
    test('gives the tokens and logprobs of one engine alone, bit for bit', async () => {
      const options = { kvCacheDtype, maxNumBatchedTokens: 48 };
      const expected = await aggregated(PROMPT, options);
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

function backwards(blocks: number): Uint32Array {
  return Uint32Array.from({ length: blocks }, (_, i) => blocks - 1 - i);
}
