import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DecodeFacts, decide, type PrefillFacts, transferableBlocks } from '../../../../src/hub/disagg/decide.ts';

const DECODE: DecodeFacts = { prefillRate: 1, queuedBlocks: 0, overlapBlocks: 0, sequences: 0 };
const PREFILL: PrefillFacts = { prefillRate: 1, queuedBlocks: 0, overlapBlocks: 0, transferRate: 100, openMs: 10 };

/** A prompt of 100 blocks and one token, rates in blocks per millisecond. */
const ask = (
  decode: Partial<DecodeFacts>,
  prefills: readonly Partial<PrefillFacts>[],
  { promptTokens = 1601, minTokens = null as number | null } = {},
) => {
  const options = prefills.map((each, at) => ({ ...PREFILL, ...each, at }));
  const question = { promptTokens, blockSize: 16, minTokens, decode: { ...DECODE, ...decode }, prefills: options };
  return decide(question)?.at ?? null;
};

describe('when another node computes a prompt', () => {
  it.each([
    [1, 0],
    [16, 0],
    [17, 1],
    [32, 1],
    [33, 2],
  ])('%i tokens have %i blocks of 16 to hand over', (tokens, blocks) => {
    expect(transferableBlocks(tokens, 16)).toBe(blocks);
  });

  // local = 100 ms here, remote = 10 + 100 ms.
  it.each<[string, Partial<DecodeFacts>, Partial<PrefillFacts>, boolean]>([
    ['equal nodes: 110 < 200', {}, {}, true],
    ['a prefill node of half the speed: 210 > 200', {}, { prefillRate: 0.5 }, false],
    ['the same beside one running sequence: 210 < 300', { sequences: 1 }, { prefillRate: 0.5 }, true],
    ['a queue of 100 blocks there: 210 > 200', {}, { queuedBlocks: 100 }, false],
    ['and one here too: 210 < 400', { queuedBlocks: 100 }, { queuedBlocks: 100 }, true],
    ['a slow way: 10 + 200 > 200', {}, { transferRate: 0.5 }, false],
    ['a way as fast as computing: sending goes on beside it', {}, { transferRate: 1 }, true],
    ['90 blocks cached here: 110 > 20', { overlapBlocks: 90 }, {}, false],
    ['90 cached here and 95 there: 15 < 20', { overlapBlocks: 90 }, { overlapBlocks: 95 }, true],
    ['a channel that takes 150 ms to open', {}, { openMs: 150 }, false],
    ['all cached here', { overlapBlocks: 100 }, { overlapBlocks: 100 }, false],
  ])('%s', (_, decode, prefill, remote) => {
    expect(ask(decode, [prefill])).toBe(remote ? 0 : null);
  });

  it('the node of least time is taken', () => {
    expect(ask({}, [{ queuedBlocks: 50 }, { prefillRate: 2 }, {}])).toBe(1);
    expect(ask({}, [{ overlapBlocks: 10 }, {}, { overlapBlocks: 90, transferRate: 0.5 }])).toBe(0);
    expect(ask({}, [])).toBeNull();
  });

  it('what was not measured is tried: another node counts as fast as the known one, a way as free', () => {
    expect(ask({}, [{ prefillRate: null, transferRate: null, openMs: null }])).toBe(0);
    expect(ask({ prefillRate: null }, [{}])).toBe(0);
    expect(ask({ prefillRate: null }, [{ transferRate: 0.1 }])).toBeNull();
  });

  it('with no rate at all, 128 uncached tokens are enough', () => {
    const unknown = { prefillRate: null, transferRate: null, openMs: null };
    for (const [tokens, overlapBlocks, remote] of [
      [128, 0, true],
      [127, 0, false],
      [160, 2, true],
      [160, 3, false],
    ] as const)
      expect(ask({ prefillRate: null, overlapBlocks }, [unknown], { promptTokens: tokens })).toBe(remote ? 0 : null);
    // Of nodes that nobody knows the one with less to do.
    expect(ask({ prefillRate: null }, [{ ...unknown, queuedBlocks: 4 }, unknown])).toBe(1);
  });

  it('--remote-prefill-min-tokens decides alone, by uncached tokens', () => {
    const slow = { prefillRate: 0.001, transferRate: 0.001 };
    expect(ask({}, [slow], { minTokens: 1601 })).toBe(0);
    expect(ask({}, [{}], { minTokens: 1602 })).toBeNull();
    expect(ask({ overlapBlocks: 50 }, [slow], { minTokens: 801 })).toBe(0);
    expect(ask({ overlapBlocks: 50 }, [slow], { minTokens: 802 })).toBeNull();
    // There must be something to hand over.
    expect(ask({ overlapBlocks: 100 }, [slow], { minTokens: 0 })).toBeNull();
    expect(ask({}, [slow], { promptTokens: 16, minTokens: 0 })).toBeNull();
  });

  it('more on the decode node never speaks against another node, more there or on the way never for it', () => {
    const rate = fc.option(fc.double({ min: 0.01, max: 100, noNaN: true }), { nil: null });
    const blocks = fc.nat(200);
    const decode = fc.record({
      prefillRate: rate,
      queuedBlocks: blocks,
      overlapBlocks: fc.nat(110),
      sequences: fc.nat(20),
    });
    const prefill = fc.record({
      prefillRate: rate,
      queuedBlocks: blocks,
      overlapBlocks: fc.nat(110),
      transferRate: rate,
      openMs: fc.option(fc.double({ min: 0, max: 1000, noNaN: true }), { nil: null }),
    });
    let remote = 0;
    fc.assert(
      fc.property(decode, prefill, fc.integer({ min: 1, max: 100 }), (d, p, more) => {
        const taken = ask(d, [p]) === 0;
        remote += Number(taken);
        if (taken) {
          expect(ask({ ...d, queuedBlocks: d.queuedBlocks + more, sequences: d.sequences + more }, [p])).toBe(0);
        } else {
          expect(ask(d, [{ ...p, queuedBlocks: p.queuedBlocks + more }])).toBeNull();
          expect(ask(d, [{ ...p, openMs: (p.openMs ?? 20) + more }])).toBeNull();
        }
      }),
      { numRuns: 2000 },
    );
    expect(remote).toBeGreaterThan(200);
    expect(remote).toBeLessThan(1800);
  });
});
