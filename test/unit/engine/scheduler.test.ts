import { describe, expect, it } from 'vitest';
import { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import { Scheduler, type SchedulerOptions } from '../../../src/engine/scheduler.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import type { StepPlan } from '../../../src/engine/step-plan.ts';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE, NO_TOKEN, REJECTED } from '../../../src/engine/tables.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';

const hasher = await createBlockHasher('xxh3');

interface Setup extends Partial<Omit<SchedulerOptions, 'blockManager'>> {
  readonly totalBlocks?: number;
  readonly prefixCaching?: boolean;
}

/** Blocks of 4 tokens, contexts of 100, 4 slots, 32 rows a step. */
function setUp({ totalBlocks = 100, prefixCaching = true, ...options }: Setup = {}) {
  const blocks = new BlockManager(totalBlocks, 4, hasher, { prefixCaching });
  const scheduler = new Scheduler({
    maxNumSeqs: 4,
    maxNumBatchedTokens: 32,
    maxModelLen: 100,
    maxLogitRows: 8,
    maxWaiting: 10,
    maxDrafts: 0,
    ...options,
    blockManager: blocks,
  });
  const add = (
    request: string,
    prompt: readonly number[],
    sampling: Partial<SamplingParams> = {},
    choices: readonly (readonly number[])[] = [[]],
  ) => {
    const filled = { request, prompt: [...prompt], choices: [], sampling: { ...GREEDY, ...sampling } };
    const sequences = choices.map((generated, choice) => new Sequence(filled, choice, generated, 100));
    scheduler.add(sequences);
    return sequences;
  };
  return { blocks, scheduler, add };
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
/** What a step computes: `a 0+8` = eight rows of request a from position 0, `a 8d` = its decode at position 8. */
function shape(plan: StepPlan | null): string[] | null {
  if (plan === null) return null;
  const name = (s: Sequence) => (s.choice === 0 ? s.request : `${s.request}/${s.choice}`);
  return plan.rows.map((r) => `${name(r.sequence)} ${r.start}${r.decode ? 'd' : `+${r.count}`}`);
}
/** Reads a step back; every sampled token is `token`. */
const answer = (scheduler: Scheduler, plan: StepPlan | null, token = 7) =>
  scheduler.consume(
    plan!,
    plan!.logitRows.map(() => token),
  );

/** What an update says of a decode without drafts. */
const PLAIN = { sample: 0, drafted: 0 };

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

describe('drafts', () => {
  /** `a` decodes with up to three drafts; its prompt of 5 is read back. */
  const decoding = (options: Setup = {}, sampling: Partial<SamplingParams> = {}) => {
    const test = setUp({ maxDrafts: 3, maxLogitRows: 16, ...options });
    const [a] = test.add('a', range(0, 5), sampling);
    answer(test.scheduler, test.scheduler.schedule(), 1);
    return { ...test, a: a! };
  };
  const NO = REJECTED;

  it('are rows after that of the known token, and are all sampled', () => {
    const { scheduler } = decoding({}, { logprobs: 1 });
    const plan = scheduler.schedule()!;
    expect(plan.rows).toMatchObject([{ start: 5, count: 4, decode: true, sample: 0 }]);
    expect([plan.numRows, plan.numDecodeRows, plan.numDraftRows]).toEqual([4, 4, 3]);
    expect(plan.logitRows.map(({ row, kind }) => [row, kind])).toEqual(
      range(0, 4).map((row) => [row, LOGIT_SAMPLE | LOGIT_LOGPROBS]),
    );
  });

  it('leave it open how far the sequence is: blocks for the farthest, the rest for the nearest', () => {
    const { scheduler, a } = decoding();
    const plans = [scheduler.schedule()!, scheduler.schedule()!, scheduler.schedule()!];
    expect(plans.map((plan) => plan.rows[0]!.start)).toEqual([5, 6, 7]);
    // 5 + 4 + 4 + 4 positions, in blocks of 4.
    expect(a.blocks).toHaveLength(5);
    expect([a.pending, a.drafts]).toEqual([3, 9]);
    expect(scheduler.consume(plans[0]!, [10, 11, 12, 13])).toMatchObject([{ tokens: [10, 11, 12, 13], drafted: 3 }]);
    expect([a.computed, a.scheduled, a.pending, a.drafts]).toEqual([9, 11, 2, 6]);
    expect(a.registered).toBe(2);
    expect(scheduler.consume(plans[1]!, [20, 21, NO, NO_TOKEN])).toMatchObject([{ tokens: [20, 21], drafted: 2 }]);
    expect(scheduler.consume(plans[2]!, [30, NO_TOKEN, NO_TOKEN, NO_TOKEN])).toMatchObject([
      { tokens: [30], drafted: 0 },
    ]);
    expect(a.tokens.slice(5)).toEqual([1, 10, 11, 12, 13, 20, 21, 30]);
    expect([a.computed, a.scheduled, a.virtualLength, a.drafts]).toEqual([12, 12, 13, 0]);
    expect(scheduler.schedule()!.rows[0]!.start).toBe(12);
  });

  it('end at the last token, and ask for no block beyond it', () => {
    const { scheduler, blocks, a } = decoding({}, { maxTokens: 6 });
    const plans = [scheduler.schedule()!, scheduler.schedule()!, scheduler.schedule()!];
    // After four known tokens at most one draft is of use in the third step.
    expect(plans.map((plan) => plan.rows[0]!.count)).toEqual([4, 4, 3]);
    expect(a.blocks).toHaveLength(3);
    scheduler.consume(plans[0]!, [10, 11, 12, 13]);
    const [update] = scheduler.consume(plans[1]!, [14, NO_TOKEN, NO_TOKEN, NO_TOKEN]);
    expect(update).toMatchObject({ tokens: [14], finish: 'length' });
    expect(scheduler.consume(plans[2]!, [NO_TOKEN, NO_TOKEN, NO_TOKEN])).toEqual([]);
    expect(blocks.usedBlocks).toBe(0);
  });

  it('stop at a stop id, with the blocks before it cached; a GPU that goes on is an error', () => {
    const { scheduler, blocks } = decoding({}, { stopIds: [42] });
    const plan = scheduler.schedule()!;
    expect(scheduler.consume(plan, [10, 11, 42, NO])).toMatchObject([
      { tokens: [10, 11, 42], drafted: 3, finish: 'stop', stopId: 42 },
    ]);
    expect(blocks.usedBlocks).toBe(0);
    expect(blocks.cachedBlocks).toBe(2);
    const other = decoding({}, { stopIds: [42] });
    expect(() => other.scheduler.consume(other.scheduler.schedule()!, [10, 42, 11, NO])).toThrow(/went on at 8 tokens/);
  });

  it('rest while none is accepted', () => {
    const { scheduler } = decoding();
    const counts = range(0, 12).map(() => {
      const plan = scheduler.schedule()!;
      const { count } = plan.rows[0]!;
      scheduler.consume(plan, [9, ...new Array<number>(count - 1).fill(NO)]);
      return count;
    });
    expect(counts.slice(0, 3)).toEqual([4, 4, 1]);
    expect(Math.max(...counts.slice(2))).toBe(2);
    expect(counts.reduce((a, b) => a + b)).toBeLessThan(4 + 4 + 10 + 4);
  });

  it('share the rows that running and waiting sequences do not need', () => {
    // Five rows and five logit rows more than sequences: two drafts for each of two.
    const { scheduler, add } = decoding({ maxNumBatchedTokens: 10, maxLogitRows: 9 });
    add('b', range(20, 5));
    answer(scheduler, scheduler.schedule());
    add('c', range(40, 9));
    const plan = scheduler.schedule()!;
    expect(plan.rows.map((r) => [r.sequence.request, r.count])).toEqual([
      ['a', 3],
      ['b', 3],
      ['c', 4],
    ]);
  });

  it('are left out where no block is free, and preempt nobody', () => {
    const { scheduler, add } = setUp({ maxDrafts: 3, maxLogitRows: 16, totalBlocks: 4 });
    add('a', range(0, 5), { maxTokens: 9 });
    add('b', range(20, 7), { maxTokens: 9 });
    answer(scheduler, scheduler.schedule());
    // Two blocks each: the next positions of both fit, three more of either do not.
    expect(scheduler.schedule()!.rows.map((r) => r.count)).toEqual([1, 1]);
    expect(scheduler.preemptions).toBe(0);
    scheduler.cancel('b');
    expect(scheduler.schedule()!.rows.map((r) => r.count)).toEqual([4]);
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
