import { afterEach, expect, test } from 'vitest';
import { reference, TestEngine } from './test-engine.ts';

const ROUNDS = 25;
const REQUESTS = 8;
const MAX_NUM_SEQS = 4;
const CHUNK = 16;

let engine: TestEngine;
afterEach(() => engine.close());

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const tokens = (count: number) => Array.from({ length: count }, () => pick(300, 900));
const pick = (from: number, to: number) => from + Math.floor(Math.random() * (to - from + 1));

test(`G4: after ${ROUNDS * REQUESTS} random cancellations no step computes what was cancelled, no block is in use, and answers are as before`, async () => {
  engine = await TestEngine.create({
    maxModelLen: 256,
    maxNumSeqs: MAX_NUM_SEQS,
    maxNumBatchedTokens: CHUNK,
    numGpuBlocksOverride: 48,
  });
  const met = { queued: 0, prefill: 0, decode: 0 };
  const load = () => engine.engine.load();
  /** By steps and not by time, since adapters differ a hundredfold. */
  const steps = async (count: number) => {
    const end = load().counters.steps + count;
    while (load().counters.steps < end && load().running + load().waiting > 0) await pause(1);
  };

  for (let round = 0; round < ROUNDS; round++) {
    // In every other round some decode.
    const decoding = round % 2 === 0;
    const prompts = Array.from({ length: REQUESTS }, () => tokens(decoding ? pick(2, 6) : pick(40, 120)));
    const live = new Set<string>();
    for (const [i, prompt] of prompts.entries()) {
      const id = `round ${round}, request ${i}`;
      live.add(id);
      void engine.generate(prompt, { maxTokens: 100, stopIds: [] }, 1, id);
    }
    await steps(pick(0, 12));
    while (decoding && load().running > 0 && ![...live].some((id) => engine.tokensOf(id) > 0)) await pause(1);
    for (const id of [...live].sort(() => Math.random() - 0.5)) {
      if (Math.random() < 0.5) await steps(pick(1, 3));
      const before = load();
      engine.engine.cancel(id);
      live.delete(id);
      const after = load();
      const gone = before.running + before.waiting - after.running - after.waiting;
      // Those that end by themselves, and nothing else, are not there to be cancelled.
      expect(gone).toBeLessThanOrEqual(1);
      if (gone === 1) met[before.waiting > after.waiting ? 'queued' : engine.tokensOf(id) > 0 ? 'decode' : 'prefill']++;
      // A step has one row of each sequence that decodes: no more of them than are left.
      const from = after.counters.steps;
      await steps(pick(0, 2));
      for (const step of engine.engine.steps().slice(from + 1)) expect(step.decodeRows).toBeLessThanOrEqual(live.size);
    }
    // All are cancelled: not one step more, but for one that was scheduled and on its way to the GPU.
    const { counters, ...state } = load();
    expect(state).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    await pause(60);
    expect(load().counters.steps).toBeLessThanOrEqual(counters.steps + 1);
  }
  for (const [phase, count] of Object.entries(met))
    expect({ phase, count }).toEqual({ phase, count: expect.toSatisfy((n: number) => n > 5) });

  const short = reference.cases.filter(({ input_ids, output_ids }) => input_ids.length + output_ids.length <= 128);
  expect(short.length).toBeGreaterThan(2);
  for (const { input_ids, output_ids } of short.slice(0, 3)) {
    const { tokens } = await engine.one(input_ids, { maxTokens: output_ids.length, stopIds: [] });
    expect(tokens).toEqual(output_ids);
  }
  expect(load().usedBlocks).toBe(0);
});
