import { describe, expect, it } from 'vitest';
import { LOGIT_LOGPROBS, LOGIT_SAMPLE, NO_TOKEN, REJECTED } from '../../../src/engine/tables.ts';
import type { SamplingParams } from '../../../src/protocol/sampling.ts';
import { answer, range, type Setup, setUp } from './scheduling.ts';

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
