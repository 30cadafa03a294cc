import type { Choice } from './choice.ts';

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
  const { loads, slots, newBlocks, overlapBlocks, sharedBlocks } = choice;
  const { prefillBlocks, decodeBlocks, prefillMs, decodeMs } = loads;
  const { overlapScoreCredit, prefillLoadScale } = knobs;
  const leastPrefillMs = leastOf(slots, prefillMs);
  const leastDecodeMs = leastOf(slots, decodeMs);
  const costs = new Float64Array(slots.length);
  // There may be thousands, for each request: numbers alone, and no object or call that would hold them.
  for (let i = 0; i < slots.length; i++) {
    const slot = slots[i]!;
    const prefill = prefillBlocks[slot]! + newBlocks - overlapScoreCredit * overlapBlocks[i]!;
    const decode = decodeBlocks[slot]! + newBlocks - sharedBlocks[i]!;
    const ownPrefillMs = prefillMs[slot]!;
    const ownDecodeMs = decodeMs[slot]!;
    const prefillTimes = ownPrefillMs === 0 ? 1 : ownPrefillMs / leastPrefillMs;
    const decodeTimes = ownDecodeMs === 0 ? 1 : ownDecodeMs / leastDecodeMs;
    costs[i] = (prefill > 0 ? prefillLoadScale * prefill * prefillTimes : 0) + decode * decodeTimes;
  }
  return costs;
}

/** The least that was measured; Infinity where nothing was. */
function leastOf(slots: Int32Array, column: Float64Array): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < slots.length; i++) {
    const own = column[slots[i]!]!;
    if (own > 0 && own < least) least = own;
  }
  return least;
}

/** Probabilities p ~ exp(-(cost - min) / ((max - min) x temperature)), as Dynamo's softmax; temperature above 0. */
export function softmax(costs: readonly number[], temperature: number): number[] {
  const min = Math.min(...costs);
  const range = Math.max(...costs) - min;
  const weights = costs.map((cost) => (range === 0 ? 1 : Math.exp(-(cost - min) / (range * temperature))));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}
