/** Dynamo's knobs of its KV router. */
export interface CostKnobs {
  /** How much of its prefill a block in the prefix cache saves, 0 to 1. */
  readonly overlapScoreCredit: number;
  /** Weight of prefill blocks beside decode blocks. */
  readonly prefillLoadScale: number;
  /** 0 takes the lowest cost; more spreads requests over nodes of near cost. */
  readonly temperature: number;
}

export interface CostTerms {
  /** Prompt blocks that the node still has to compute for others. */
  readonly prefillBlocks: number;
  /** Blocks of the node's running requests. */
  readonly decodeBlocks: number;
  /** Blocks of the new request's prompt. */
  readonly newBlocks: number;
  /** Leading ones of them that are in the node's prefix cache. */
  readonly overlapBlocks: number;
  /** Leading ones of them that its running requests hold. */
  readonly sharedBlocks: number;
  /** The node's measured rates as parts of the fastest node's: 1 = as fast. */
  readonly prefillSpeed: number;
  readonly decodeSpeed: number;
}

/**
 * What a request would cost on a node, in blocks of the fastest node. Dynamo's formula (prefill_load_scale x prefill blocks + decode
 * blocks, both as they would be with the request there, shared blocks once), each term divided by the node's speed.
 */
export function nodeCost(terms: CostTerms, { overlapScoreCredit, prefillLoadScale }: CostKnobs): number {
  const { prefillBlocks, decodeBlocks, newBlocks, overlapBlocks, sharedBlocks, prefillSpeed, decodeSpeed } = terms;
  const prefill = Math.max(0, prefillBlocks + newBlocks - overlapScoreCredit * overlapBlocks);
  return (prefillLoadScale * prefill) / prefillSpeed + (decodeBlocks + newBlocks - sharedBlocks) / decodeSpeed;
}

/** Probabilities p ~ exp(-(cost - min) / ((max - min) x temperature)), as Dynamo's softmax; temperature above 0. */
export function softmax(costs: readonly number[], temperature: number): number[] {
  const min = Math.min(...costs);
  const range = Math.max(...costs) - min;
  const weights = costs.map((cost) => (range === 0 ? 1 : Math.exp(-(cost - min) / (range * temperature))));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}
