import fc from 'fast-check';
import type { BlockHasher } from '../../../src/protocol/hashes.ts';

/** One-bit hashes: nearly every lookup meets a block of another prompt. */
export const colliding: BlockHasher = {
  tokensHash: (tokens) => BigInt(tokens.reduce((sum, token) => sum + token, 0) % 2),
  blockHash: (parent, { tokensHash }) => (parent ?? 0n) ^ tokensHash,
};

const beginnings = [[], [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 5]];
/** Few tokens and shared beginnings, so that prompts really meet in the cache. */
export const prompt = fc
  .tuple(fc.constantFrom(...beginnings), fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 14 }))
  .map(([a, b]) => [...a, ...b]);
