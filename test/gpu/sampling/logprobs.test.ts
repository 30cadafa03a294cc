import { describe, expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE } from '../../../src/engine/tables.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { Bench, openDawn } from '../dawn.ts';
import { adjust, argmax, draw, keep, logprob, normals } from './reference.ts';
import { World } from './world.ts';

const bench = new Bench(await openDawn());
const BOTH = LOGIT_SAMPLE | LOGIT_LOGPROBS;

async function expectLogprob(
  world: World,
  i: number,
  logits: readonly number[],
  target: number,
  top: number,
): Promise<void> {
  const [got, want] = [await world.logprob(i, top), logprob(logits, target, top)];
  expect(got.logprob).toBeCloseTo(want.logprob, 4);
  expect(got.rank).toBe(want.rank);
  expect(got.top.map(([id]) => id)).toEqual(want.top.map(([id]) => id));
  for (const [k, [, value]] of want.top.entries()) expect(got.top[k]![1]).toBeCloseTo(value, 4);
}

describe.each(['scalar', 'wide'] as const)('%s', (variant) => {
  const world = new World(bench, variant, 1023);

  it('logprobs are of the raw logits: bias, penalties and temperature change the token, not its logprob', async () => {
    const logits = normals(1023, 3, 1);
    world.setSlot(0, { prompt: [1], sampling: { logprobs: 5, logitBias: [[99, 50]], temperature: 0 } });
    world.setSlot(1, { prompt: [1], sampling: { logprobs: 5, temperature: 5, topK: 500, seed: [8, 8] } });
    const rows = [0, 1].map((slot) => ({ slot, logits, kind: BOTH }));
    const [biased, hot] = await world.step({ rows, admitted: [0, 1] });
    expect(biased).toBe(99);
    expect(hot).not.toBe(argmax(logits));
    await expectLogprob(world, 0, logits, 99, 5);
    await expectLogprob(world, 1, logits, hot!, 5);
  });

  it.each([0, 1, 2, 5, 19, 20])('the %i best come best first', async (top) => {
    const logits = normals(1023, 3, 40 + top);
    world.setSlot(0, { prompt: [1], sampling: { logprobs: top } });
    await world.step({ rows: [{ slot: 0, logits, kind: BOTH }], admitted: [0] });
    await expectLogprob(world, 0, logits, argmax(logits), top);
  });

  it('ties come lower id first and share a rank', async () => {
    const logits = normals(1023, 3, 2).map((x) => Math.round(x));
    world.setSlot(0, { prompt: [1, 700, 3], sampling: { promptLogprobs: 20 } });
    await world.step({ rows: [{ slot: 0, position: 0, logits, kind: LOGIT_LOGPROBS }] });
    await expectLogprob(world, 0, logits, 700, 20);
    const equal = new Array<number>(1023).fill(2.5);
    await world.step({ rows: [{ slot: 0, position: 0, logits: equal, kind: LOGIT_LOGPROBS }] });
    await expectLogprob(world, 0, equal, 700, 20);
  });

  it('prompt logprobs take the token after the row, in rows of any order beside rows that sample', async () => {
    const prompt = [10, 20, 30, 40, 50];
    world.setSlot(2, { prompt, sampling: { promptLogprobs: 3, logprobs: 1 } });
    world.setSlot(5, { prompt: [7], sampling: { logprobs: 2 } });
    const logits = [0, 1, 2, 3, 4, 5].map((i) => normals(1023, 2 + i, 60 + i));
    const rows = [
      { slot: 5, logits: logits[0]!, kind: BOTH },
      { slot: 2, position: 3, logits: logits[1]!, kind: LOGIT_LOGPROBS },
      { slot: 2, position: 0, logits: logits[2]!, kind: LOGIT_LOGPROBS },
      { slot: 2, position: 2, kind: null },
      { slot: 2, position: 1, logits: logits[3]!, kind: LOGIT_LOGPROBS },
      { slot: 2, position: 4, logits: logits[4]!, kind: BOTH },
    ];
    const got = await world.step({ rows, admitted: [2, 5], bucket: 16 });
    expect([got[0], got[4]]).toEqual([argmax(logits[0]!), argmax(logits[4]!)]);
    await expectLogprob(world, 0, logits[0]!, got[0]!, 2);
    await expectLogprob(world, 1, logits[1]!, 50, 3);
    await expectLogprob(world, 2, logits[2]!, 20, 3);
    await expectLogprob(world, 3, logits[3]!, 30, 3);
    await expectLogprob(world, 4, logits[4]!, got[4]!, 3);
  });

  it('stays finite for logits at the ends of float32', async () => {
    const logits = new Array<number>(1023).fill(Number.NEGATIVE_INFINITY);
    logits[4] = 3.4e38;
    logits[9] = -5;
    world.setSlot(0, { prompt: [1, 9], sampling: { promptLogprobs: 3 } });
    await world.step({ rows: [{ slot: 0, position: 0, logits, kind: LOGIT_LOGPROBS }] });
    const got = await world.logprob(0, 3);
    expect(got.rank).toBe(2);
    expect(got.logprob).toBeLessThan(-1e37);
    expect(Number.isFinite(got.logprob)).toBe(true);
    expect(got.top.map(([id]) => id)).toEqual([4, 9, 0]);
    expect(got.top[0]![1]).toBe(0);
  });

  it('leaves rows that did not ask, and inactive ones, alone', async () => {
    const logits = normals(1023, 3, 3);
    world.setSlot(0, { prompt: [1], sampling: { maxTokens: 1, logprobs: 2 } });
    world.setSlot(1, { prompt: [1], sampling: { logprobs: 2 } });
    world.setSlot(2, { prompt: [1], sampling: { logprobs: 2 } });
    await world.step({ rows: [{ slot: 0, logits }], admitted: [0, 1, 2] });
    world.bench.gpu.device.queue.writeBuffer(world.buffers.logprobs, 0, new Uint32Array(3 * 42).fill(5));
    const rows = [
      { slot: 0, logits, kind: BOTH },
      { slot: 1, logits, kind: LOGIT_SAMPLE },
      { slot: 2, logits, kind: BOTH },
    ];
    await world.step({ rows });
    expect([...(await world.words('logprobs')).subarray(0, 84)].every((word) => word === 5)).toBe(true);
    await expectLogprob(world, 2, logits, argmax(logits), 2);
  });
});

it.each([
  [4097, 'scalar'],
  [151_936, 'scalar'],
  [151_936, 'wide'],
] as const)('a vocabulary of %i: greedy, sampled and logprobs (%s)', async (vocab, variant) => {
  const world = new World(bench, variant, vocab, { maxRows: 3, maxLogitRows: 3, maxSlots: 3 });
  const logits = normals(vocab, 3, 4);
  logits[vocab - 1] = 12;
  const sampling = {
    temperature: 0.8,
    topK: 50,
    topP: 0.9,
    repetitionPenalty: 1.2,
    seed: [21, 4] as [number, number],
    logprobs: 20,
  };
  const tokens = { prompt: [vocab - 1, 5], generated: [vocab - 2] };
  world.setSlot(0, { prompt: [1], sampling: { logprobs: 20 } });
  world.setSlot(1, { ...tokens, sampling });
  world.setSlot(2, { prompt: [1], sampling: { temperature: 1, seed: [3, 4], logprobs: 0 } });
  const rows = [0, 1, 2].map((slot) => ({ slot, logits, kind: BOTH }));
  const got = await world.step({ rows, admitted: [0, 1, 2] });
  const scores = adjust(logits, { ...GREEDY, ...sampling }, tokens);
  const { ids, margin } = keep(scores, { ...GREEDY, ...sampling });
  const filtered = draw(scores, 0.8, ids, { seed: [21, 4], choice: 0, offset: 1 });
  const free = draw(
    logits,
    1,
    logits.map((_, id) => id),
    { seed: [3, 4], choice: 0, offset: 0 },
  );
  expect(Math.min(margin, filtered.margin, free.margin)).toBeGreaterThan(1e-5);
  expect(got).toEqual([argmax(logits), filtered.id, free.id]);
  for (const i of [0, 1, 2]) await expectLogprob(world, i, logits, got[i]!, i === 2 ? 0 : 20);
});
