import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AttemptFrame, type FrameRules, TokenLog } from '../../../src/hub/token-log.ts';

const RULES: FrameRules = { maxTokens: 64, vocabSize: 1000, logprobs: false, promptLogprobs: null, embedding: null };

function frame(offset: number, tokens: number[], more: Partial<AttemptFrame> = {}): AttemptFrame {
  return { request: 'r', choice: 0, attempt: 0, offset, tokens, ...more };
}

describe('TokenLog', () => {
  it('T2: takes frames that follow each other and passes them on as they are', () => {
    const log = new TokenLog(RULES);
    expect(log.append(frame(0, [5, 6], { cachedTokens: 16 }), 0)).toEqual({
      kind: 'accepted',
      frame: { request: 'r', choice: 0, offset: 0, tokens: [5, 6], cachedTokens: 16 },
    });
    expect(log.append(frame(2, [7], { finish: 'stop', stopId: 7 }), 0)).toEqual({
      kind: 'accepted',
      frame: { request: 'r', choice: 0, offset: 2, tokens: [7], finish: 'stop', stopId: 7 },
    });
    expect(log.tokens).toEqual([5, 6, 7]);
    expect(log.finished).toBe(true);
  });

  it('T2: cuts off what it holds, with the logprobs of it', () => {
    const log = new TokenLog({ ...RULES, logprobs: true });
    const of = (token: number) => ({ token, logprob: -1, rank: 1, top: [] });
    log.append(frame(0, [1, 2], { logprobs: [of(1), of(2)] }), 0);
    expect(log.append(frame(1, [2, 3], { logprobs: [of(2), of(3)] }), 0)).toEqual({
      kind: 'accepted',
      frame: { request: 'r', choice: 0, offset: 2, tokens: [3], logprobs: [of(3)] },
    });
  });

  it('T2: a frame of another attempt changes nothing, not even with the end in it', () => {
    const log = new TokenLog(RULES);
    expect(log.append(frame(0, [9], { attempt: 0, finish: 'stop' }), 1)).toEqual({ kind: 'ignored' });
    expect(log.append(frame(0, [8], { attempt: 1 }), 1).kind).toBe('accepted');
    expect(log.tokens).toEqual([8]);
  });

  it('T2: a hole is broken, and nothing of the frame is taken', () => {
    const log = new TokenLog(RULES);
    log.append(frame(0, [1]), 0);
    expect(log.append(frame(2, [3]), 0)).toEqual({ kind: 'broken', reason: expect.stringContaining('hole') });
    expect(log.tokens).toEqual([1]);
  });

  it('T4: nothing comes after the end', () => {
    const log = new TokenLog(RULES);
    log.append(frame(0, [1], { finish: 'length' }), 0);
    expect(log.append(frame(1, [2]), 0)).toEqual({ kind: 'ignored' });
    expect(log.append(frame(7, [2]), 0)).toEqual({ kind: 'ignored' });
  });

  it('T4: an end without tokens is an end; one before what came already is broken', () => {
    const log = new TokenLog(RULES);
    log.append(frame(0, [1, 2]), 0);
    expect(log.append(frame(0, [1], { finish: 'length' }), 0).kind).toBe('broken');
    expect(log.append(frame(2, [], { finish: 'length' }), 0)).toEqual({
      kind: 'accepted',
      frame: { request: 'r', choice: 0, offset: 2, tokens: [], finish: 'length' },
    });
  });

  it.each([
    ['T6: more than was asked for', RULES, frame(0, Array<number>(65).fill(1))],
    ['T6: an id outside the vocabulary', RULES, frame(0, [1000])],
    ['T4: cancelled by nobody', RULES, frame(0, [], { finish: 'cancelled' })],
    ['T5: a token without its logprob', { ...RULES, logprobs: true }, frame(0, [1])],
    ['G5: a first frame without the prompt logprobs', { ...RULES, promptLogprobs: 3 }, frame(0, [1])],
    [
      'G5: prompt logprobs of another length',
      { ...RULES, promptLogprobs: 3 },
      frame(0, [1], { promptLogprobs: [null] }),
    ],
  ])('%s is broken', (_, rules, bad) => {
    const log = new TokenLog(rules);
    expect(log.append(bad, 0).kind).toBe('broken');
    expect(log.tokens).toEqual([]);
  });

  it('G5: prompt logprobs and cached tokens are told once', () => {
    const log = new TokenLog({ ...RULES, promptLogprobs: 1 });
    const first = log.append(frame(0, [], { promptLogprobs: [null], cachedTokens: 0 }), 0);
    expect(first).toMatchObject({ frame: { promptLogprobs: [null], cachedTokens: 0 } });
    const again = log.append(frame(0, [4], { promptLogprobs: [null], cachedTokens: 7 }), 0);
    expect(again).toEqual({ kind: 'accepted', frame: { request: 'r', choice: 0, offset: 0, tokens: [4] } });
  });

  it('what was not asked for is not passed on', () => {
    const log = new TokenLog(RULES);
    const logprobs = [{ token: 1, logprob: -1, rank: 1, top: [] }];
    const taken = log.append(frame(0, [1], { logprobs, promptLogprobs: [null] }), 0);
    expect(taken).toEqual({ kind: 'accepted', frame: { request: 'r', choice: 0, offset: 0, tokens: [1] } });
  });

  it('T2: whatever a node sends, in whatever order and how often, a client sees each token once and in order', () => {
    const truth = Array.from({ length: 40 }, (_, offset) => 100 + offset);
    const current = fc
      .tuple(fc.nat(40), fc.nat(12))
      .map(([from, length]) => frame(from, truth.slice(from, from + length), { attempt: 2 }));
    const old = fc
      .tuple(fc.nat(40), fc.array(fc.nat(999), { maxLength: 8 }), fc.nat(1), fc.boolean())
      .map(([from, tokens, attempt, end]) => frame(from, tokens, { attempt, ...(end ? { finish: 'stop' } : {}) }));
    const future = fc.nat(40).map((from) => frame(from, [1], { attempt: 3 }));
    fc.assert(
      fc.property(fc.array(fc.oneof({ weight: 4, arbitrary: current }, old, future), { maxLength: 60 }), (sent) => {
        const log = new TokenLog(RULES);
        const seen: number[] = [];
        for (const each of sent) {
          const reach = seen.length;
          const result = log.append(each, 2);
          if (each.attempt !== 2) expect(result.kind).toBe('ignored');
          else expect(result.kind === 'broken').toBe(each.offset > reach);
          if (result.kind !== 'accepted') continue;
          expect(result.frame.offset).toBe(seen.length);
          seen.push(...result.frame.tokens);
        }
        expect(seen).toEqual(truth.slice(0, seen.length));
        expect(log.tokens).toEqual(seen);
      }),
      { numRuns: 500 },
    );
  });

  it('T2: frames in order, each sent any number of times, give the whole sequence', () => {
    const pieces = fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 3 })), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(pieces, (cuts) => {
        const log = new TokenLog(RULES);
        const truth: number[] = [];
        const seen: number[] = [];
        cuts.forEach(([length, times], piece) => {
          const offset = truth.length;
          for (let i = 0; i < length; i++) truth.push(truth.length);
          const last = piece === cuts.length - 1;
          const sent = frame(offset, truth.slice(offset), last ? { finish: 'length' } : {});
          for (let i = 0; i < times; i++) {
            const result = log.append(sent, 0);
            if (result.kind === 'accepted') seen.push(...result.frame.tokens);
          }
        });
        expect(seen).toEqual(truth);
        expect(log.finished).toBe(true);
      }),
    );
  });
});
