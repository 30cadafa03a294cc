import { nodeCost, softmax } from './cost.ts';
import { type Candidate, least, type Option, type RouterMode } from './mode.ts';

/** The node of least cost: prefix cache, load and measured rates weighed together. random: uniform in [0, 1). */
export function kvMode(random: () => number): RouterMode {
  return {
    choose(options, newBlocks, knobs) {
      const fastest: { prefill: number | null; decode: number | null } = { prefill: null, decode: null };
      for (const { load } of options) {
        fastest.prefill = higher(load.prefillRate, fastest.prefill);
        fastest.decode = higher(load.decodeRate, fastest.decode);
      }
      const cost = ({ load, overlapBlocks, sharedBlocks }: Option<Candidate>): number => {
        const { prefillBlocks, decodeBlocks } = load;
        const prefillSpeed = speed(load.prefillRate, fastest.prefill);
        const decodeSpeed = speed(load.decodeRate, fastest.decode);
        return nodeCost(
          // Written out: a spread costs more than the rest of a candidate.
          { prefillBlocks, decodeBlocks, newBlocks, overlapBlocks, sharedBlocks, prefillSpeed, decodeSpeed },
          knobs,
        );
      };
      if (knobs.temperature === 0) return least(options, cost);
      const chances = softmax(options.map(cost), knobs.temperature);
      let drawn = random();
      for (const [at, option] of options.entries()) {
        drawn -= chances[at] ?? 0;
        if (drawn < 0) return option;
      }
      return options[0];
    },
  };
}

/** null where nothing is measured. */
function higher(rate: number | null, best: number | null): number | null {
  return rate !== null && rate > (best ?? 0) ? rate : best;
}

/** A node without a measurement counts as the fastest, so that it gets requests to be measured by. */
function speed(rate: number | null, fastest: number | null): number {
  return rate === null || fastest === null ? 1 : rate / fastest;
}
