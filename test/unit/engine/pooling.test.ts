import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { embeddingOf } from '../../../src/engine/pooling.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import type { Pooling, PoolingType } from '../../../src/protocol/pooling.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { colliding, prompt } from './prompts.ts';
import { SimulatedEngine, type SimulatedEngineOptions } from './simulated-engine.ts';
import { HIDDEN, pooledReference } from './simulated-gpu.ts';

const xxh3 = await createBlockHasher('xxh3');
const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await null;
};

function asked(id: string, tokens: readonly number[], pooling: Partial<Pooling> = {}): GenerateRequest {
  return {
    request: id,
    prompt: [...tokens],
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, maxTokens: 1 },
    pooling: { type: 'LAST', normalize: false, dimensions: HIDDEN, ...pooling },
  };
}

const pooling = (options: Partial<SimulatedEngineOptions> = {}) =>
  new SimulatedEngine({ hasher: xxh3, totalBlocks: 40, blockSize: 4, pools: true, ...options });

async function until(engine: SimulatedEngine, ids: readonly string[]): Promise<void> {
  for (let i = 0; i < 10_000 && !ids.every((id) => engine.finished.has(id)); i++) await turns(4);
  expect(ids.filter((id) => !engine.finished.has(id))).toEqual([]);
}

/** Sums of whole numbers are exact in f32: the simulated GPU's own order does not matter here. */
function wanted(tokens: readonly number[], type: PoolingType): number[] {
  const sums = pooledReference(tokens, type);
  return sums.map((sum) => Math.fround(type === 'MEAN' ? sum / tokens.length : sum));
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => (from + i * 7) % 11);

describe('a sequence that is pooled', () => {
  it.each(['LAST', 'MEAN'] as const)('%s: computes its prompt in chunks beside others, and no decode', async (type) => {
    const engine = pooling({ maxNumBatchedTokens: 12 });
    const prompts = [range(0, 30), range(3, 5), range(5, 1), range(1, 17)];
    for (const [i, tokens] of prompts.entries()) engine.loop.add(asked(`r${i}`, tokens, { type }));
    await until(engine, ['r0', 'r1', 'r2', 'r3']);
    for (const [i, tokens] of prompts.entries())
      expect([...engine.embeddings.get(`r${i}`)!]).toEqual(wanted(tokens, type));
    expect([...engine.tokens.values()].flat()).toEqual([]);
    const steps = engine.loop.steps();
    expect(steps.reduce((sum, { rows }) => sum + rows, 0)).toBe(53);
    expect(steps.every(({ decodeRows }) => decodeRows === 0)).toBe(true);
    expect(steps[0]!.rows).toBe(12);
    expect(steps.length).toBe(5);
    expect(engine.loop.load().counters).toMatchObject({ sampledTokens: 0, acceptedTokens: 0, prefillRows: 53 });
    expect(engine.blocks.usedBlocks).toBe(0);
  });

  it('takes a prompt as long as the context, which none that generates may', async () => {
    const engine = pooling({ maxModelLen: 32 });
    engine.loop.add(asked('whole', range(0, 32)));
    await until(engine, ['whole']);
    expect(() => engine.loop.add(asked('more', range(0, 33)))).toThrow('a context of 32 holds 32 of them');
  });

  it('LAST reads the prefix cache, MEAN fills it and does not read it', async () => {
    const engine = pooling();
    const tokens = range(2, 21);
    engine.loop.add(asked('first', tokens, { type: 'MEAN' }));
    await until(engine, ['first']);
    const rows = () => engine.loop.load().counters.prefillRows;
    const before = rows();
    engine.loop.add(asked('last', tokens, { type: 'LAST' }));
    await until(engine, ['last']);
    expect(rows() - before).toBe(1);
    engine.loop.add(asked('mean', tokens, { type: 'MEAN' }));
    await until(engine, ['mean']);
    expect(rows() - before).toBe(22);
    expect([...engine.embeddings.get('last')!]).toEqual(wanted(tokens, 'LAST'));
    expect(engine.embeddings.get('mean')).toEqual(engine.embeddings.get('first'));
  });

  it('is in no step after it was cancelled', async () => {
    const engine = pooling({ maxNumBatchedTokens: 5 });
    engine.loop.add(asked('gone', range(0, 40), { type: 'MEAN' }));
    await turns(6);
    engine.loop.cancel('gone');
    engine.loop.add(asked('stays', range(0, 9), { type: 'MEAN' }));
    await until(engine, ['stays']);
    expect([...engine.embeddings.keys()]).toEqual(['stays']);
    expect([...engine.embeddings.get('stays')!]).toEqual(wanted(range(0, 9), 'MEAN'));
    expect(engine.loop.load().counters.prefillRows).toBeLessThan(49);
    expect(engine.blocks.usedBlocks).toBe(0);
  });

  it('whose values are no numbers fails by itself', async () => {
    const engine = pooling();
    const run = engine.gpu.run.bind(engine.gpu);
    let broken = true;
    engine.gpu.run = (plan) => {
      const samples = run(plan);
      if (broken) engine.gpu.pooled = engine.gpu.pooled.map((row) => row.map(() => Number.NaN));
      return samples;
    };
    engine.loop.add(asked('bad', range(0, 9)));
    for (let i = 0; i < 200 && !engine.failed.has('bad'); i++) await turns(4);
    expect(engine.failed.get('bad')).toMatchObject({ code: 'internal' });
    broken = false;
    engine.loop.add(asked('good', range(0, 9)));
    await until(engine, ['good']);
    expect(engine.finished.has('bad')).toBe(false);
    expect(engine.blocks.usedBlocks).toBe(0);
  });
});

describe('an engine', () => {
  const refusal = (engine: SimulatedEngine, request: GenerateRequest) => {
    try {
      engine.loop.add(request);
    } catch (error) {
      return error instanceof EngineError ? `${error.code}: ${error.message}` : error;
    }
    return 'taken';
  };

  it('that pools takes nothing else, and one that generates takes no pooling', () => {
    const { pooling: _, ...plain } = asked('r', [1, 2]);
    expect(refusal(pooling(), plain)).toBe('invalid_request: This engine gives embeddings, and generates nothing.');
    expect(refusal(pooling({ pools: false }), asked('r', [1, 2]))).toBe(
      'invalid_request: This engine generates, and gives no embeddings.',
    );
  });

  it('gives no more values than the model has', () => {
    expect(refusal(pooling(), asked('r', [1, 2], { dimensions: HIDDEN + 1 }))).toContain('have 8 values, not 9');
  });
});

describe('embeddingOf', () => {
  it.each([
    { type: 'LAST', normalize: false, dimensions: 4, values: [3, 4, 0, 12] },
    { type: 'MEAN', normalize: false, dimensions: 4, values: [1.5, 2, 0, 6] },
    { type: 'LAST', normalize: true, dimensions: 4, values: [3 / 13, 4 / 13, 0, 12 / 13] },
    { type: 'MEAN', normalize: true, dimensions: 2, values: [0.6, 0.8] },
  ] as const)('cuts, averages and normalizes: $type, $normalize, $dimensions', ({ values, ...how }) => {
    expect([...embeddingOf(Float32Array.of(3, 4, 0, 12), 2, how)]).toEqual(values.map(Math.fround));
  });

  it('leaves zeros as they are', () => {
    expect([...embeddingOf(new Float32Array(3), 1, { type: 'LAST', normalize: true, dimensions: 3 })]).toEqual([
      0, 0, 0,
    ]);
  });
});

const job = fc.record({
  prompt,
  type: fc.constantFrom('LAST', 'MEAN'),
  wait: fc.integer({ min: 0, max: 40 }),
  cancel: fc.option(fc.integer({ min: 0, max: 30 }), { freq: 3 }),
});
const machine = fc.record({
  blockSize: fc.constantFrom(1, 2, 4, 5),
  spareBlocks: fc.integer({ min: 0, max: 20 }),
  maxNumSeqs: fc.integer({ min: 1, max: 5 }),
  spareRows: fc.constantFrom(1, 2, 5, 17),
  stepsInFlight: fc.integer({ min: 1, max: 3 }),
  prefixCaching: fc.boolean(),
  collide: fc.boolean(),
});

it('gives the same embedding however prompts are cut, crowded, cached and cancelled', async () => {
  let cached = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(job, { minLength: 1, maxLength: 8 }), machine, async (jobs, m) => {
      const engine = pooling({
        ...m,
        hasher: m.collide ? colliding : xxh3,
        maxModelLen: 27,
        totalBlocks: Math.ceil(27 / m.blockSize) + m.spareBlocks,
        maxNumBatchedTokens: m.maxNumSeqs + m.spareRows,
      });
      await Promise.all(
        jobs.map(async ({ prompt: tokens, type, wait, cancel }, i) => {
          await turns(wait);
          engine.loop.add(asked(`r${i}`, tokens, { type }));
          if (cancel === null) return;
          await turns(cancel);
          engine.loop.cancel(`r${i}`);
        }),
      );
      await until(
        engine,
        jobs.flatMap(({ cancel }, i) => (cancel === null ? [`r${i}`] : [])),
      );
      for (const [id, values] of engine.embeddings) {
        const { prompt: tokens, type } = jobs[Number(id.slice(1))]!;
        expect([...values]).toEqual(wanted(tokens, type));
      }
      expect(engine.lost).toEqual([]);
      expect(engine.blocks.usedBlocks).toBe(0);
      engine.replay.expectEqual(engine.blocks.snapshot());
      cached += engine.loop.load().counters.cachedTokens;
    }),
    { numRuns: 200 },
  );
  expect(cached).toBeGreaterThan(0);
});
