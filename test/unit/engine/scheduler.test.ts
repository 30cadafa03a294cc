import { describe, expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE, NO_TOKEN } from '../../../src/engine/tables.ts';

import { answer, PLAIN, range, setUp, shape } from './scheduling.ts';

describe('a step', () => {
  it('takes decodes first, then chunks of running prefills, then new sequences', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 3));
    answer(scheduler, scheduler.schedule());
    add('b', range(10, 45));
    const mixed = scheduler.schedule();
    expect(shape(mixed)).toEqual(['a 3d', 'b 0+31']);
    expect([mixed!.numRows, mixed!.numDecodeRows]).toEqual([32, 1]);
    add('c', range(60, 30));
    // The long prompts never hold up the running stream; the newest gets what is left.
    expect(shape(scheduler.schedule())).toEqual(['a 4d', 'b 31+14', 'c 0+17']);
    expect(shape(scheduler.schedule())).toEqual(['a 5d', 'b 45d', 'c 17+13']);
  });

  it('goes on without the results of earlier steps, up to the last token', () => {
    const { scheduler, add } = setUp();
    const [a] = add('a', range(0, 5), { maxTokens: 3 });
    const plans = [scheduler.schedule(), scheduler.schedule(), scheduler.schedule()];
    expect(plans.map(shape)).toEqual([['a 0+5'], ['a 5d'], ['a 6d']]);
    expect(a!.pending).toBe(3);
    expect(scheduler.schedule()).toBeNull();
    expect(answer(scheduler, plans[0]!, 1)[0]).toEqual({ ...PLAIN, sequence: a, tokens: [1] });
    expect(answer(scheduler, plans[1]!, 2)[0]).toEqual({ ...PLAIN, sequence: a, tokens: [2] });
    expect(answer(scheduler, plans[2]!, 3)[0]).toEqual({ ...PLAIN, sequence: a, tokens: [3], finish: 'length' });
    expect(a!.tokens).toEqual([...range(0, 5), 1, 2, 3]);
  });

  it('ends a sequence at the context', () => {
    const { scheduler, add } = setUp();
    const [a] = add('a', range(0, 98), { maxTokens: 50 });
    const updates = [];
    for (let plan = scheduler.schedule(); plan; plan = scheduler.schedule()) updates.push(...answer(scheduler, plan));
    expect(updates.at(-1)?.finish).toBe('length');
    expect(a!.tokens).toHaveLength(100);
  });

  it('drops what was computed past a stop, and frees the blocks', () => {
    const { scheduler, blocks, add } = setUp();
    add('a', range(0, 5), { stopIds: [42, 43] });
    const plans = [scheduler.schedule(), scheduler.schedule(), scheduler.schedule()];
    expect(answer(scheduler, plans[0]!, 43)).toMatchObject([{ tokens: [43], finish: 'stop', stopId: 43 }]);
    expect(blocks.usedBlocks).toBe(0);
    expect(answer(scheduler, plans[1]!, NO_TOKEN)).toEqual([]);
    expect(answer(scheduler, plans[2]!, NO_TOKEN)).toEqual([]);
    expect(scheduler.schedule()).toBeNull();
  });

  it('takes no stop id for a stop before min_tokens, tokens of earlier attempts included', () => {
    const { scheduler, add } = setUp();
    const [a] = add('a', range(0, 5), { stopIds: [42], minTokens: 3 }, [[1, 1]]);
    expect(answer(scheduler, scheduler.schedule(), 42)).toEqual([{ ...PLAIN, sequence: a, tokens: [42] }]);
    expect(answer(scheduler, scheduler.schedule(), 42)[0]).toMatchObject({ finish: 'stop', stopId: 42 });
  });

  it('counts tokens of earlier attempts towards max_tokens', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 5), { maxTokens: 4 }, [[1, 1, 1]]);
    const plan = scheduler.schedule();
    expect(shape(plan)).toEqual(['a 0+8']);
    expect(answer(scheduler, plan)[0]!.finish).toBe('length');
  });

  it('says which logits are wanted', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 3), { logprobs: 2 });
    add('b', range(10, 3));
    const plan = scheduler.schedule()!;
    expect(plan.logitRows.map(({ row, position, kind }) => [row, position, kind])).toEqual([
      [2, 2, LOGIT_SAMPLE | LOGIT_LOGPROBS],
      [5, 2, LOGIT_SAMPLE],
    ]);
    expect(plan.rows.map((r) => r.sample)).toEqual([0, 1]);
  });

  it('gives slots and table entries that a later sequence takes over', () => {
    const { scheduler, add } = setUp({ maxNumSeqs: 1 });
    add('a', range(0, 3), { maxTokens: 1 });
    const first = scheduler.schedule()!;
    expect(first.admitted.map((s) => s.slot)).toEqual([0]);
    expect(first.deltas).toEqual([{ slot: 0, index: 0, block: 0 }]);
    add('b', range(10, 6), { maxTokens: 1 });
    expect(scheduler.schedule()).toBeNull();
    answer(scheduler, first);
    const second = scheduler.schedule()!;
    expect(second.admitted.map((s) => s.slot)).toEqual([0]);
    expect(second.deltas.map((d) => d.index)).toEqual([0, 1]);
  });
});

describe('prompt logprobs (G5)', () => {
  it('cut chunks to the logit rows there are, and score each position once', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 12), { promptLogprobs: 1 });
    const first = scheduler.schedule()!;
    expect(shape(first)).toEqual(['a 0+8']);
    expect(first.logitRows.map((l) => [l.position, l.kind])).toEqual(range(0, 8).map((p) => [p, LOGIT_LOGPROBS]));
    const second = scheduler.schedule()!;
    expect(second.logitRows.map((l) => [l.position, l.kind])).toEqual([
      [8, LOGIT_LOGPROBS],
      [9, LOGIT_LOGPROBS],
      [10, LOGIT_LOGPROBS],
      [11, LOGIT_SAMPLE],
    ]);
  });

  it('read no prefix cache, but fill it', () => {
    const { scheduler, blocks, add } = setUp();
    add('a', range(0, 8), { maxTokens: 1 });
    answer(scheduler, scheduler.schedule());
    const [b] = add('b', range(0, 8), { maxTokens: 1, promptLogprobs: 0 });
    const plan = scheduler.schedule()!;
    expect(shape(plan)).toEqual(['b 0+8']);
    expect(b!.cachedTokens).toBe(0);
    answer(scheduler, plan);
    add('c', range(20, 8), { maxTokens: 1, promptLogprobs: 0 });
    answer(scheduler, scheduler.schedule());
    expect(blocks.cachedBlocks).toBe(4);
    const [d] = add('d', range(20, 9));
    scheduler.schedule();
    expect(d!.cachedTokens).toBe(8);
  });

  it('are not asked for again by an attempt that goes on', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 3), { promptLogprobs: 0 }, [[5]]);
    expect(scheduler.schedule()!.logitRows.map((l) => l.kind)).toEqual([LOGIT_SAMPLE]);
  });
});

describe('the prefix cache', () => {
  it('saves a second prompt what it shares with the first', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 10), { maxTokens: 1 });
    answer(scheduler, scheduler.schedule());
    const [b] = add('b', [...range(0, 10), 50, 51]);
    const plan = scheduler.schedule()!;
    expect(shape(plan)).toEqual(['b 8+4']);
    expect(plan.deltas.map((d) => d.index)).toEqual([0, 1, 2]);
    expect(b!.cachedTokens).toBe(8);
  });

  it('lets choices wait for the prompt that the first of them computes', () => {
    const { scheduler, add } = setUp();
    const choices = add('a', range(0, 13), {}, [[], [], []]);
    add('b', range(50, 2));
    const first = scheduler.schedule()!;
    expect(shape(first)).toEqual(['a 0+13', 'b 0+2']);
    expect(shape(scheduler.schedule())).toEqual(['a 13d', 'b 2d']);
    answer(scheduler, first);
    const third = scheduler.schedule()!;
    expect(shape(third)).toEqual(['a 14d', 'b 3d', 'a/1 12+1', 'a/2 12+1']);
    expect(choices.map((c) => c.cachedTokens)).toEqual([0, 12, 12]);
  });

  it('serves an answer as part of the next prompt', () => {
    const { scheduler, add } = setUp();
    add('a', range(0, 6), { maxTokens: 4 });
    for (let plan = scheduler.schedule(); plan; plan = scheduler.schedule()) answer(scheduler, plan, 9);
    const [b] = add('b', [...range(0, 6), 9, 9, 9, 9, 50]);
    scheduler.schedule();
    expect(b!.cachedTokens).toBe(8);
  });
});

describe('out of blocks', () => {
  /** Two sequences that fill the pool of five blocks, so that the third step has none for the newer one. */
  const full = () => {
    const test = setUp({ totalBlocks: 5 });
    const [a] = test.add('a', range(0, 8), { maxTokens: 12 });
    const [b] = test.add('b', range(20, 7), { maxTokens: 6, stopIds: [42] });
    return { ...test, a: a!, b: b! };
  };

  it('preempts the newest, keeps the samples that are on their way, and computes it again after them', () => {
    const { scheduler, b } = full();
    const plans = [scheduler.schedule(), scheduler.schedule(), scheduler.schedule()];
    expect(plans.map(shape)).toEqual([['a 0+8', 'b 0+7'], ['a 8d', 'b 7d'], ['a 9d']]);
    expect([b.status, b.slot, b.pending, b.blocks]).toEqual(['waiting', null, 2, []]);
    expect(plans.map((p) => p!.preempted)).toEqual([0, 0, 1]);
    // Nothing else runs, but b has to wait for its samples.
    scheduler.cancel('a');
    expect(scheduler.schedule()).toBeNull();
    expect(answer(scheduler, plans[0]!, 1)).toEqual([{ ...PLAIN, sequence: b, tokens: [1], sample: 1 }]);
    expect(scheduler.schedule()).toBeNull();
    expect(answer(scheduler, plans[1]!, 2)).toEqual([{ ...PLAIN, sequence: b, tokens: [2], sample: 1 }]);
    const again = scheduler.schedule()!;
    expect(again.rows).toMatchObject([{ sequence: b, run: 1, start: 0, count: 9, decode: false }]);
    expect(again.admitted.map((a) => a.sequence)).toEqual([b]);
    expect(b.tokens).toEqual([...range(20, 7), 1, 2]);
    expect([again.preempted, scheduler.preemptions]).toEqual([0, 1]);
  });

  it('ends a preempted sequence whose last sample stops it', () => {
    const { scheduler, blocks, add, b } = full();
    const plans = [scheduler.schedule(), scheduler.schedule(), scheduler.schedule()];
    const updates = answer(scheduler, plans[0]!, 42);
    expect(updates.at(-1)).toEqual({ ...PLAIN, sequence: b, tokens: [42], sample: 1, finish: 'stop', stopId: 42 });
    expect(scheduler.numWaiting).toBe(0);
    // Its id is free again.
    add('b', [1]);
    scheduler.cancel('a');
    scheduler.cancel('b');
    expect(blocks.usedBlocks).toBe(0);
  });

  it('goes on from what the cache kept, which the client is not told', () => {
    const { scheduler, b } = full();
    for (let i = 0; i < 3; i++) answer(scheduler, scheduler.schedule(), 1);
    expect(b.status).toBe('waiting');
    scheduler.cancel('a');
    expect(shape(scheduler.schedule())).toEqual(['b 8+1']);
    expect(b.cachedTokens).toBe(0);
  });

  it('puts a preempted sequence before those that wait', () => {
    const { scheduler, add } = full();
    for (let i = 0; i < 2; i++) answer(scheduler, scheduler.schedule(), 1);
    add('c', range(40, 3));
    expect(shape(scheduler.schedule())).toEqual(['a 9d']);
    scheduler.cancel('a');
    expect(shape(scheduler.schedule())).toEqual(['b 8+1', 'c 0+3']);
  });

  it('does not take steps of an earlier run for those of this one', () => {
    const { scheduler, blocks, add } = setUp({ totalBlocks: 5, maxNumBatchedTokens: 6 });
    add('a', range(0, 4), { maxTokens: 8 });
    const [b] = add('b', range(20, 16), { maxTokens: 1 });
    const plans = range(0, 7).map(() => scheduler.schedule()!);
    expect(plans.map(shape)).toEqual([
      ['a 0+4', 'b 0+2'],
      ['a 4d', 'b 2+5'],
      ['a 5d', 'b 7+5'],
      // No block for the rest of b, which is the newest.
      ['a 6d'],
      ['a 7d'],
      ['a 8d'],
      ['a 9d', 'b 0+5'],
    ]);
    for (const plan of plans.slice(0, 6)) answer(scheduler, plan, 1);
    expect([b!.run, b!.computed, b!.registered]).toEqual([1, 0, 0]);
    answer(scheduler, plans[6]!, 1);
    expect([b!.computed, b!.registered]).toEqual([5, 1]);
    expect(blocks.cachedBlocks).toBe(3);
  });

  it('lets nothing new in before a running prefill that has no blocks', () => {
    const { scheduler, add } = setUp({ totalBlocks: 5, maxNumBatchedTokens: 6 });
    add('a', range(0, 4), { maxTokens: 8 });
    add('b', range(20, 15), { maxTokens: 1 });
    for (let i = 0; i < 3; i++) answer(scheduler, scheduler.schedule());
    add('c', [1]);
    expect(shape(scheduler.schedule())).toEqual(['a 6d']);
    expect(scheduler.numWaiting).toBe(1);
  });
});

describe('cancel (G4)', () => {
  it('frees everything at once and leaves the request out of all later steps', () => {
    const { scheduler, blocks, add } = setUp();
    const choices = add('a', range(0, 6), {}, [[], []]);
    add('b', range(20, 2));
    const plan = scheduler.schedule();
    expect(shape(plan)).toEqual(['a 0+6', 'b 0+2']);
    // One choice runs, the other waits for its prompt.
    expect(scheduler.cancel('a')).toEqual(choices);
    expect(blocks.usedBlocks).toBe(1);
    expect(shape(scheduler.schedule())).toEqual(['b 2d']);
    expect(answer(scheduler, plan).map((u) => u.sequence.request)).toEqual(['b']);
    expect(scheduler.cancel('a')).toEqual([]);
    expect(add('a', [1])).toHaveLength(1);
  });
});

describe('add', () => {
  it('refuses what can never run, with both numbers', () => {
    const { add } = setUp({ totalBlocks: 5 });
    expect(() => add('a', range(0, 100))).toThrow(/prompt has 100 tokens.*context of 100/);
    expect(() => add('a', range(0, 10), { maxTokens: 12 })).toThrow(/22 tokens need 6 KV blocks of 4.*pool has 5/);
    // 21 tokens are 20 computed positions.
    expect(add('a', range(0, 10), { maxTokens: 11 })).toHaveLength(1);
    expect(() => add('b', [1], { maxTokens: 2 }, [[], [1, 2]])).toThrow(/choice 1 has all of its 2 tokens/);
    expect(() => add('a', [1])).toThrow(/id is in use/);
  });

  it('refuses all choices or none when the queue is full', () => {
    const { scheduler, add } = setUp({ maxWaiting: 3 });
    add('a', [1], {}, [[], []]);
    expect(() => add('b', [1], {}, [[], []])).toThrow(
      expect.objectContaining({ code: 'overloaded', message: expect.stringMatching(/2 sequences wait and 3 may/) }),
    );
    expect(scheduler.numWaiting).toBe(2);
    add('b', [1]);
  });
});

describe('what cannot be', () => {
  it('is refused at the start', () => {
    expect(() => setUp({ maxNumSeqs: 32 })).toThrow(/max-num-batched-tokens is 32 and must be at least 33/);
    expect(() => setUp({ maxLogitRows: 3 })).toThrow(/maxLogitRows is 3/);
    expect(() => setUp({ maxNumBatchedTokens: 4 * 4096 + 1 })).toThrow(/block-size is 4/);
  });

  it('is an error of the engine: steps out of order, samples missing, a GPU that stops on its own', () => {
    const { scheduler, add } = setUp();
    add('a', [1]);
    const first = scheduler.schedule()!;
    const second = scheduler.schedule()!;
    expect(() => answer(scheduler, second)).toThrow(/step 1 .* where step 0/);
    expect(() => scheduler.consume(first, [])).toThrow(/0 samples/);
    expect(() => answer(scheduler, first, NO_TOKEN)).toThrow(/stop rules differ/);
  });
});
