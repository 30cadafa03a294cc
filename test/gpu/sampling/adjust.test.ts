import fc from 'fast-check';
import { expect, it } from 'vitest';
import { GREEDY, MAX_LOGIT_BIAS, type SamplingParams } from '../../../src/protocol/sampling.ts';
import { Bench, openDawn } from '../dawn.ts';
import { adjust, normals } from './reference.ts';
import { type RowSpec, type SlotSpec, World } from './world.ts';

const bench = new Bench(await openDawn());
const worlds = new Map([1023, 4097].map((vocab) => [vocab, new World(bench, 'scalar', vocab)]));

/** Scores of one row per slot, as the kernels leave them. */
async function scoresOf(
  world: World,
  slots: readonly SlotSpec[],
  logits: readonly (readonly number[])[],
): Promise<Float32Array[]> {
  for (const [slot, spec] of slots.entries()) world.setSlot(slot, spec);
  const rows: RowSpec[] = slots.map((_, slot) => ({ slot, logits: logits[slot]! }));
  const step = { rows, admitted: slots.map((_, slot) => slot), bucket: rows.length + 3 };
  world.write(step);
  // Sampling would change the slots that the next comparison starts from.
  await bench.run(...world.calls(step).filter((call) => call.label !== 'sample'));
  const scores = await world.floats('scores');
  const { vocabSize } = world.sizes;
  return rows.map((_, i) => scores.slice(i * vocabSize, (i + 1) * vocabSize));
}

function expectClose(got: Float32Array, expected: readonly number[]): void {
  const wrong: string[] = [];
  for (const [id, want] of expected.entries()) {
    const have = got[id]!;
    const fine =
      want === Number.NEGATIVE_INFINITY ? have < -1e38 : Math.abs(have - want) <= 2e-6 * Math.max(1, Math.abs(want));
    if (!fine) wrong.push(`id ${id}: ${have}, expected ${want}`);
  }
  expect(wrong).toEqual([]);
}

const ids = (vocab: number, max: number) => fc.array(fc.integer({ min: 0, max: vocab - 1 }), { maxLength: max });

/** Sampling parameters of which each is on as often as off. */
const samplings = (vocab: number) =>
  fc.record({
    repetitionPenalty: fc.constantFrom(1, 1, 1.3, 0.7),
    presencePenalty: fc.constantFrom(0, 0, 1.5, -0.5),
    frequencyPenalty: fc.constantFrom(0, 0, 0.4, -2),
    logitBias: fc
      .array(fc.tuple(fc.integer({ min: 0, max: vocab - 1 }), fc.integer({ min: -100, max: 100 })), { maxLength: 20 })
      .map((list) => [...new Map(list)]),
    stopIds: ids(vocab, 5),
    minTokens: fc.integer({ min: 0, max: 10 }),
  });

it.each([1023, 4097])('scores equal the float64 reference, whatever is asked for (vocabulary of %i)', async (vocab) => {
  const world = worlds.get(vocab)!;
  const slot = fc.record({
    prompt: ids(vocab, 30),
    generated: ids(vocab, 12),
    sampling: samplings(vocab),
    seed: fc.nat(1000),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(slot, { minLength: 1, maxLength: 9 }), async (specs) => {
      // Ids of the prompt come again, so that both kinds of penalty meet.
      const slots = specs.map((s) => ({
        ...s,
        prompt: [1, ...s.prompt],
        generated: [...s.generated, ...s.prompt.slice(0, 4), 1],
      }));
      const logits = specs.map((s) => normals(vocab, 4, s.seed));
      const got = await scoresOf(world, slots, logits);
      for (const [i, s] of slots.entries()) expectClose(got[i]!, adjust(logits[i]!, { ...GREEDY, ...s.sampling }, s));
    }),
    { numRuns: 12, seed: 11 },
  );
});

it.each<[string, Partial<SamplingParams>, (x: number) => number]>([
  ['repetition penalty divides what is above zero', { repetitionPenalty: 2 }, (x) => (x > 0 ? x / 2 : x * 2)],
  ['frequency penalty counts every time', { frequencyPenalty: 0.5 }, (x) => x - 1.5],
  ['presence penalty counts once', { presencePenalty: 0.5 }, (x) => x - 0.5],
  ['bias comes before penalties', { logitBias: [[7, 10]], repetitionPenalty: 2 }, (x) => (x + 10) / 2],
  [
    'min_tokens masks stop ids, bias or not',
    { logitBias: [[7, 100]], stopIds: [7], minTokens: 4 },
    () => Number.NEGATIVE_INFINITY,
  ],
  ['enough tokens free them', { stopIds: [7], minTokens: 3 }, (x) => x],
])('%s', async (_name, sampling, expected) => {
  const logits = normals(1023, 4, 5);
  const [got] = await scoresOf(worlds.get(1023)!, [{ prompt: [3], generated: [7, 7, 7], sampling }], [logits]);
  expectClose(got!.slice(7, 8), [expected(logits[7]!)]);
  expect(got![8]).toBe(logits[8]);
});

it('bars the first ids that end a slot, and not the others', async () => {
  const logits = normals(1023, 4, 5);
  const stops = { ids: [7, 9, 8], barred: 2, minTokens: Number.POSITIVE_INFINITY };
  const [got] = await scoresOf(worlds.get(1023)!, [{ prompt: [3], generated: [1, 2], stops }], [logits]);
  expectClose(got!.slice(7, 10), [Number.NEGATIVE_INFINITY, logits[8]!, Number.NEGATIVE_INFINITY]);
});

it('takes the largest bias list there is, every place of the vocabulary, and the last entry of an id', async () => {
  const logits = normals(4097, 4, 6);
  const borders = [0, 1023, 1024, 2047, 2048, 4095, 4096].map((id): [number, number] => [id, 7]);
  const logitBias = Array.from({ length: MAX_LOGIT_BIAS - 8 }, (_, i): [number, number] => [4 * i + 1, i % 90]);
  logitBias.push(...borders, [5, -3]);
  const [got] = await scoresOf(worlds.get(4097)!, [{ prompt: [3], sampling: { logitBias } }], [logits]);
  expectClose(got!, adjust(logits, { ...GREEDY, logitBias }, { prompt: [3], generated: [] }));
  expect(got![5]).toBeCloseTo(logits[5]! - 3, 5);
});

it('ignores biased and stop ids that the vocabulary does not have', async () => {
  const logits = [normals(1023, 4, 5), normals(1023, 4, 6)];
  const sampling = { logitBias: [[1023, 50]] as [number, number][], stopIds: [1025], minTokens: 5 };
  const got = await scoresOf(worlds.get(1023)!, [{ prompt: [3], sampling }, { prompt: [3] }], logits);
  for (const i of [0, 1]) expect([...got[i]!]).toEqual(logits[i]);
});

it('keeps penalized scores finite and in order at the ends of float32', async () => {
  const logits = normals(1023, 4, 5);
  logits.splice(0, 4, 3.4e38, -3.4e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
  for (const repetitionPenalty of [1e-30, 0.5, 1, 100]) {
    const sampling = { repetitionPenalty, frequencyPenalty: -2, presencePenalty: 2 };
    const [got] = await scoresOf(worlds.get(1023)!, [{ prompt: [0, 1], generated: [2, 3, 3], sampling }], [logits]);
    expect(got!.every(Number.isFinite)).toBe(true);
    expect(Math.min(got![0]!, got![2]!)).toBeGreaterThan(1e35);
    expect(Math.max(got![1]!, got![3]!)).toBeLessThan(-1e7);
  }
});
