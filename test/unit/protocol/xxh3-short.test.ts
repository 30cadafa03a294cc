import fc from 'fast-check';
import { createXXHash3, type IHasher } from 'hash-wasm';
import { expect, it } from 'vitest';
import { MAX_WORDS, MIN_WORDS, seededSecret, xxh3OfWords } from '../../../src/protocol/xxh3-short.ts';

/** The library's own XXH3-64 of the same bytes. */
function reference(hasher: IHasher, words: readonly number[]): bigint {
  return BigInt(
    `0x${hasher
      .init()
      .update(new Uint8Array(Uint32Array.from(words).buffer))
      .digest('hex')}`,
  );
}

const word = fc.oneof(
  fc.nat(0xffff_ffff),
  fc.constantFrom(0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
);

it('is XXH3-64 for every length of 16 to 128 bytes, under any seed', async () => {
  const seeds = [0n, 1n, 1337n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n, 1948188790972764086n];
  for (const seed of seeds) {
    const hasher = await createXXHash3(Number(seed & 0xffff_ffffn), Number(seed >> 32n));
    const secret = seededSecret(seed);
    for (let length = MIN_WORDS; length <= MAX_WORDS; length++) {
      const words = fc.array(word, { minLength: length, maxLength: length });
      fc.assert(
        fc.property(words, (input) => {
          expect(xxh3OfWords(input, secret)).toBe(reference(hasher, input));
        }),
        { numRuns: 40 },
      );
    }
  }
});
