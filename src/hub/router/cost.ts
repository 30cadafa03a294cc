import type { Choice } from './choice.ts';
import { rateNow } from './rate.ts';

/** Dynamo's knobs of its KV router. */
export interface CostKnobs {
  /** How much of its prefill a block in the prefix cache saves, 0 to 1. */
  readonly overlapScoreCredit: number;
  /** Weight of prefill blocks beside decode blocks. */
  readonly prefillLoadScale: number;
  /** 0 takes the lowest cost; more spreads requests over ranks of near cost. */
  readonly temperature: number;
}

/**
 * What the request would cost on each candidate, in blocks of the fastest one. Dynamo's formula, both loads as they would be with the
 * request there, blocks that it shares with running requests counted once, each term divided by the rank's speed:
 *
 *   prefill_load_scale x max(0, prefill blocks + new blocks - credit x overlap blocks) / prefill speed
 *   + (decode blocks + new blocks - shared blocks) / decode speed
 *
 * Speeds are measured rates as parts of the fastest candidate's; one without a measurement counts as the fastest, so that it gets
 * requests to be measured by.
 */
export function costsOf(choice: Choice, knobs: CostKnobs): Float64Array {
  const { loads, slots, now, newBlocks, overlapBlocks, sharedBlocks } = choice;
  const { prefillBlocks, decodeBlocks, prefillRate, prefillRateAt, decodeRate, decodeRateAt } = loads;
  const { overlapScoreCredit, prefillLoadScale } = knobs;
  const prefillTop = fastest(slots, prefillRate, prefillRateAt, now);
  const decodeTop = fastest(slots, decodeRate, decodeRateAt, now);
  const costs = new Float64Array(slots.length);
  // There may be thousands, for each request: numbers alone, and no object or call that would hold them.
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    const prefill = prefillBlocks[slot]! + newBlocks - overlapScoreCredit * overlapBlocks[i]!;
    const decode = decodeBlocks[slot]! + newBlocks - sharedBlocks[i]!;
    const prefillOwn = rateNow(prefillRate[slot]!, prefillRateAt[slot]!, now);
    const decodeOwn = rateNow(decodeRate[slot]!, decodeRateAt[slot]!, now);
    const prefillTimes = prefillOwn === 0 ? 1 : prefillTop / prefillOwn;
    const decodeTimes = decodeOwn === 0 ? 1 : decodeTop / decodeOwn;
    costs[i] = (prefill > 0 ? prefillLoadScale * prefill * prefillTimes : 0) + decode * decodeTimes;
  }
  return costs;
}

function fastest(slots: Int32Array, rates: Float64Array, sampledAt: Float64Array, now: number): number {
  let most = 0;
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    const rate = rateNow(rates[slot]!, sampledAt[slot]!, now);
    if (rate > most) most = rate;
  }
  return most;
}

/** Probabilities p ~ exp(-(cost - min) / ((max - min) x temperature)), as Dynamo's softmax; temperature above 0. */
export function softmax(costs: readonly number[], temperature: number): number[] {
  const min = Math.min(...costs);
  const range = Math.max(...costs) - min;
  const weights = costs.map((cost) => (range === 0 ? 1 : Math.exp(-(cost - min) / (range * temperature))));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}
