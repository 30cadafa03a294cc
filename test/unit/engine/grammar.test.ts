import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import type { SimulatedEngine } from './simulated-engine.ts';
import { reference } from './simulated-gpu.ts';
import { engineOf, follows, PROMPT, requestOf, until } from './toy-grammar.ts';

describe('a sequence under a grammar', () => {
  it('samples what its masks allow, beside free ones that sample what they would alone', async () => {
    const { engine } = engineOf();
    engine.loop.add(requestOf('free', { maxTokens: 20 }));
    engine.loop.add(requestOf('held', { maxTokens: 9 }, { grammar: 'toy' }));
    await until(() => engine.finished.size === 2);
    expect(engine.tokens.get('held')).toHaveLength(9);
    expect(follows(engine.tokens.get('held')!)).toBe(true);
    expect(engine.tokens.get('free')).toEqual(reference(PROMPT, { ...GREEDY, maxTokens: 20 }, 64).tokens);
    // Without the masks it would have been other tokens.
    expect(follows(engine.tokens.get('free')!)).toBe(false);
    expect(engine.loop.steps().some(({ constrainedRows, rows }) => constrainedRows === 1 && rows > 1)).toBe(true);
    expect(engine.loop.steps().reduce((sum, { constrainedRows }) => sum + constrainedRows, 0)).toBe(9);
  });

  it('sits out while its mask is not there: not a step of the others waits', async () => {
    const { engine, matcher } = engineOf();
    matcher.prompt = false;
    engine.loop.add(requestOf('held', { maxTokens: 3 }, { grammar: 'toy' }));
    engine.loop.add(requestOf('free', { maxTokens: 30 }));
    await until(() => engine.finished.has('free'));
    expect(engine.tokens.has('held')).toBe(false);
    expect(engine.loop.load()).toMatchObject({ running: 0, waiting: 1 });
    const alone = engineOf();
    alone.engine.loop.add(requestOf('free', { maxTokens: 30 }));
    await until(() => alone.engine.finished.has('free'));
    const rows = (e: SimulatedEngine) => e.loop.steps().map(({ rows, inFlight }) => ({ rows, inFlight }));
    expect(rows(engine)).toEqual(rows(alone.engine));
    // A loop that had nothing to do begins anew with each mask.
    for (let i = 0; i < 3; i++) {
      matcher.tell(matcher.matches[0]!);
      await until(() => engine.tokens.get('held')?.length === i + 1);
    }
    expect(engine.finished.has('held')).toBe(true);
    expect(matcher.matches[0]!.open).toBe(false);
  });

  it('has no drafts; those beside it have theirs', async () => {
    const { engine } = engineOf({ maxDrafts: 3, maxNumBatchedTokens: 40 });
    engine.loop.add(requestOf('held', { maxTokens: 9 }, { grammar: 'toy' }));
    engine.loop.add(requestOf('free', { maxTokens: 30 }));
    await until(() => engine.finished.size === 2);
    expect(follows(engine.tokens.get('held')!)).toBe(true);
    expect(engine.tokens.get('free')).toEqual(reference(PROMPT, { ...GREEDY, maxTokens: 30 }, 64).tokens);
    const { draftTokens, acceptedTokens } = engine.loop.load().counters;
    expect(acceptedTokens).toBeGreaterThan(0);
    expect(draftTokens).toBeGreaterThan(acceptedTokens);
    // Its rows were one a token, and those of its prompt.
    expect(engine.loop.steps().reduce((sum, { constrainedRows }) => sum + constrainedRows, 0)).toBe(9);
  });

  it('goes on where an earlier attempt was, each choice by itself', async () => {
    const { engine, matcher } = engineOf();
    const choices = [
      { choice: 0, generated: [0, 3] },
      { choice: 2, generated: [1] },
    ];
    engine.loop.add(requestOf('r', { maxTokens: 6 }, { grammar: 'toy', choices }));
    await until(() => matcher.matches.every(({ open }) => !open));
    expect(matcher.matches.map(({ wish }) => wish.generated)).toEqual([[0, 3], [1]]);
    // The last token needs no mask after it.
    expect(matcher.matches.map(({ accepted }) => [accepted.length, follows(accepted)])).toEqual([
      [5, true],
      [5, true],
    ]);
  });

  it('is preempted and goes on, by the same grammar', async () => {
    const { engine, matcher } = engineOf({ totalBlocks: 9, maxNumBatchedTokens: 24 });
    engine.loop.add(requestOf('a', { maxTokens: 20 }, { grammar: 'toy' }));
    engine.loop.add(requestOf('b', { maxTokens: 20 }, { grammar: 'toy', prompt: [6, 5, 4, 3] }));
    await until(() => engine.finished.size === 2);
    expect(engine.preemptions).toBeGreaterThan(0);
    for (const id of ['a', 'b']) {
      expect(engine.tokens.get(id)).toHaveLength(20);
      expect(follows(engine.tokens.get(id)!)).toBe(true);
    }
    expect(matcher.matches).toHaveLength(2);
    expect(engine.lost).toEqual([]);
  });

  it('ends when it is cancelled, when its grammar fails, and when the engine closes; the others go on', async () => {
    const { engine, matcher } = engineOf();
    matcher.prompt = false;
    for (const id of ['cancelled', 'failed', 'closed'])
      engine.loop.add(requestOf(id, { maxTokens: 3 }, { grammar: 'toy' }));
    engine.loop.cancel('cancelled');
    const error = new EngineError('invalid_request', 'too much');
    matcher.matches[1]!.listener.failed(error);
    expect(matcher.matches.map(({ open }) => open)).toEqual([false, false, true]);
    expect([...engine.failed]).toEqual([['failed', error]]);
    expect(engine.loop.load()).toMatchObject({ running: 0, waiting: 1, usedBlocks: 0 });
    engine.loop.add(requestOf('free', { maxTokens: 3 }));
    await until(() => engine.finished.has('free'));
    await engine.loop.close();
    expect(matcher.matches[2]!.open).toBe(false);
  });

  it('is refused by an engine that matches no grammars', () => {
    const { engine } = engineOf({ grammars: undefined as never });
    expect(() => engine.loop.add(requestOf('r', {}, { grammar: 'toy' }))).toThrow('matches no grammars');
  });
});
