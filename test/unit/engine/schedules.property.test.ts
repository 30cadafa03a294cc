import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockHasher, createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { colliding, prompt } from './prompts.ts';
import { reference } from './simulated-gpu.ts';
import { type Arrival, type Machine, type Outcome, simulate } from './simulation.ts';

const xxh3 = await createBlockHasher('xxh3');

const MAX_MODEL_LEN = 40;

const arrival: fc.Arbitrary<Arrival> = fc.record(
  {
    tick: fc.integer({ min: 0, max: 12 }),
    prompt,
    sampling: fc.record(
      {
        maxTokens: fc.integer({ min: 1, max: 24 }),
        minTokens: fc.integer({ min: 0, max: 6 }),
        stopIds: fc.subarray([0, 1, 2, 3]),
        logprobs: fc.constantFrom(null, 0, 3),
        promptLogprobs: fc.constantFrom(null, null, 2),
      },
      { requiredKeys: ['maxTokens'] },
    ),
    choices: fc.constantFrom(1, 1, 2, 3),
    cacheSalt: fc.constantFrom('a', 'b'),
    priority: fc.constantFrom(0, 0, -1, 5),
    cancel: fc.integer({ min: 0, max: 30 }),
  },
  { requiredKeys: ['tick', 'prompt', 'sampling'] },
);
/** A prompt that is computed for its KV, which is held for a time. */
const heldArrival: fc.Arbitrary<Arrival> = fc
  .record({ tick: fc.integer({ min: 0, max: 12 }), prompt, hold: fc.integer({ min: 1, max: 40 }) })
  .map(({ tick, prompt: tokens, hold }) => ({
    ...{ tick, prompt: tokens, held: true, cancel: tick + hold },
    sampling: { maxTokens: 1 },
  }));
const arrivals = fc.array(fc.oneof({ weight: 4, arbitrary: arrival }, { weight: 1, arbitrary: heldArrival }), {
  minLength: 1,
  maxLength: 8,
});

function machine(hasher: BlockHasher): fc.Arbitrary<Machine> {
  return fc
    .record({
      depth: fc.integer({ min: 0, max: 4 }),
      maxNumSeqs: fc.integer({ min: 1, max: 6 }),
      spareRows: fc.constantFrom(1, 2, 5, 17, 64),
      spareLogitRows: fc.constantFrom(0, 1, 8),
      blockSize: fc.constantFrom(1, 2, 4, 5),
      // 1 = a pool that holds just one sequence of the longest kind.
      pool: fc.double({ min: 1, max: 4, noNaN: true }),
      prefixCaching: fc.constantFrom(true, true, true, false),
      maxDrafts: fc.constantFrom(0, 0, 1, 3, 5),
      shuffle: fc.integer({ min: 0, max: 1000 }),
    })
    .map(({ spareRows, spareLogitRows, pool, shuffle, ...rest }) => {
      const totalBlocks = Math.floor(Math.ceil(MAX_MODEL_LEN / rest.blockSize) * pool);
      const order = Uint32Array.from({ length: totalBlocks }, (_, i) => i);
      order.sort((a, b) => ((a * 7919 + shuffle * 31) % 101) - ((b * 7919 + shuffle * 31) % 101));
      return {
        ...rest,
        hasher,
        totalBlocks,
        order,
        maxModelLen: MAX_MODEL_LEN,
        maxNumBatchedTokens: rest.maxNumSeqs + spareRows,
        maxLogitRows: rest.maxNumSeqs + spareLogitRows,
      };
    });
}

/** Every stream is what the reference gives, or the beginning of it where the client left. */
function expectTrueStreams(requests: readonly Arrival[], { streams }: Outcome): void {
  for (const [name, stream] of streams) {
    const request = requests[Number(/^r(\d+)/.exec(name)![1])]!;
    const sampling = { ...GREEDY, ...request.sampling };
    const expected = reference(request.prompt, sampling, MAX_MODEL_LEN);
    if (stream.finish === null) {
      expect(request.cancel).toBeDefined();
      expect(stream.tokens).toEqual(expected.tokens.slice(0, stream.tokens.length));
    } else {
      expect({ tokens: stream.tokens, finish: stream.finish }).toEqual(expected);
      expect(stream.stopId).toBe(expected.finish === 'stop' ? expected.tokens.at(-1) : null);
    }
  }
}

describe('any schedule', () => {
  it('gives each sequence the tokens that it would get alone, and keeps all blocks and events in order', () => {
    const seen = { preemptions: 0, mixed: 0, cached: 0, removed: 0, held: 0, accepted: 0, drafts: 0 };
    fc.assert(
      fc.property(arrivals, machine(xxh3), (requests, m) => {
        const outcome = simulate(requests, m);
        expectTrueStreams(requests, outcome);
        seen.preemptions += outcome.preemptions;
        seen.accepted += outcome.accepted;
        seen.drafts += outcome.plans.reduce((sum, plan) => sum + plan.numDraftRows, 0);
        seen.mixed += outcome.plans.filter((p) => p.numDecodeRows > 0 && p.numDecodeRows < p.numRows).length;
        seen.removed += outcome.events.filter((e) => e.type === 'removed').length;
        for (const sequence of outcome.sequences.values()) {
          seen.cached += sequence.cachedTokens ?? 0;
          if (sequence.held && sequence.computed === sequence.promptLength) seen.held++;
        }
      }),
      { numRuns: 600 },
    );
    // The machines above must really get into these states.
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(50);
  });

  it('is the same again for the same requests: plans and events, byte for byte (K6)', () => {
    fc.assert(
      fc.property(arrivals, machine(xxh3), (requests, m) => {
        expect(simulate(requests, m).log).toBe(simulate(requests, m).log);
      }),
      { numRuns: 100 },
    );
  });

  it('serves nobody the blocks of another prompt when all hashes collide', () => {
    fc.assert(
      fc.property(arrivals, machine(colliding), (requests, m) => {
        expectTrueStreams(requests, simulate(requests, m));
      }),
      { numRuns: 300 },
    );
  });
});
