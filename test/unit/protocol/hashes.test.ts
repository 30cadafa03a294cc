import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { createXXHash3, xxhash3 } from 'hash-wasm';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { type BlockHasher, createBlockHasher } from '../../../src/protocol/hashes.ts';

const U64 = z.string().transform((s) => BigInt(s.replace('u64:', '')));
const Check = z.object({ check: z.object({ tokens: z.array(z.number()), local: z.array(U64), seq: z.array(U64) }) });
const Stored = z.object({
  parent_hash: U64.nullable(),
  blocks: z.array(z.object({ block_hash: U64, tokens_hash: U64 })),
});
const Batch = z.array(z.object({ event: z.object({ data: z.object({ stored: Stored }) }) }));

function capture(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../fixtures/dynamo/${name}.json`, import.meta.url), 'utf8'));
}

function le32(tokens: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(4 * tokens.length);
  for (const [i, token] of tokens.entries()) bytes.writeUInt32LE(token, 4 * i);
  return bytes;
}

/** XXH3 with a seed given when the hasher is made, which is the only way the library offers. */
async function seeded(bytes: Uint8Array, seed: bigint): Promise<bigint> {
  const low = Number(BigInt.asUintN(32, seed));
  const high = Number(seed >> 32n);
  return BigInt(`0x${(await createXXHash3(low, high)).update(bytes).digest('hex')}`);
}

function checkChain(hasher: BlockHasher, { parent_hash, blocks }: z.infer<typeof Stored>): void {
  let parent = parent_hash;
  for (const block of blocks) {
    expect(hasher.blockHash(parent, block.tokens_hash)).toBe(block.block_hash);
    parent = block.block_hash;
  }
}

const hasher = await createBlockHasher('xxh3');
const sha256 = await createBlockHasher('sha256');

describe('xxh3 block hashes (K2)', () => {
  it('are the known ones of three chained blocks', () => {
    const first = hasher.tokensHash([1, 2, 3, 4]);
    const second = hasher.tokensHash([5, 6, 7, 8]);
    const third = hasher.tokensHash([9, 10, 11, 12]);
    expect([first, second, third]).toEqual([14643705804678351452n, 16777012769546811212n, 483935686894639516n]);
    const chained = hasher.blockHash(hasher.blockHash(null, first), second);
    expect([hasher.blockHash(null, first), chained]).toEqual([first, 4945711292740353085n]);
    expect(hasher.blockHash(chained, third)).toBe(12583592247330656132n);
  });

  it("are those of Dynamo's mocker for a list of tokens", () => {
    const { tokens, local, seq } = Check.parse(capture('kv-events-mocker')).check;
    let parent: bigint | null = null;
    for (const [i, tokensHash] of local.entries()) {
      expect(hasher.tokensHash(tokens.slice(16 * i, 16 * i + 16))).toBe(tokensHash);
      parent = hasher.blockHash(parent, tokensHash);
      expect(parent).toBe(seq[i]);
    }
  });

  it('chain as in the events that were captured from Dynamo', () => {
    const mocker = z.object({ messages: z.array(z.object({ batch: Batch })) }).parse(capture('kv-events-mocker'));
    const worker = z.object({ stored: z.object({ batch: Batch }) }).parse(capture('kv-events-proof-worker'));
    const batches = [...mocker.messages.map((m) => m.batch), worker.stored.batch];
    const events = batches.flat().map(({ event }) => event.data.stored);
    expect(events.reduce((n, e) => n + e.blocks.length, 0)).toBe(16);
    for (const stored of events) checkChain(hasher, stored);
  });

  it("take Dynamo's seed for a salt", async () => {
    const seed = 1948188790972764086n;
    expect(hasher.tokensHash([1, 2, 3, 4], 'tenant-a')).toBe(await seeded(le32([1, 2, 3, 4]), seed));
    const pair = Buffer.alloc(16);
    pair.writeBigUInt64LE(5n, 0);
    pair.writeBigUInt64LE(2n ** 64n - 1n, 8);
    expect(hasher.blockHash(5n, 2n ** 64n - 1n, 'tenant-a')).toBe(await seeded(pair, seed));
  });

  it('equal those of a hasher made with the seed, for any salt and any block size', async () => {
    const salt = fc.string({ minLength: 1, maxLength: 80, unit: 'grapheme' });
    const tokens = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 1024, size: 'max' });
    await fc.assert(
      fc.asyncProperty(salt, tokens, async (salt, tokens) => {
        const shift = BigInt(`0x${await xxhash3(new TextEncoder().encode(salt), 1, 0)}`);
        const seed = BigInt.asUintN(64, 1337n + shift);
        expect(hasher.tokensHash(tokens, salt)).toBe(await seeded(le32(tokens), seed));
        expect(hasher.tokensHash(tokens)).toBe(await seeded(le32(tokens), 1337n));
      }),
      { numRuns: 150 },
    );
  });
});

describe('sha256 block hashes (K2)', () => {
  const first64 = (...parts: Uint8Array[]) =>
    createHash('sha256').update(Buffer.concat(parts)).digest().readBigUInt64BE();

  it('are the first 64 bits over salt and bytes', () => {
    expect(sha256.tokensHash([1, 70000])).toBe(first64(le32([0]), le32([1, 70000])));
    expect(sha256.tokensHash([1, 70000], 'é')).toBe(first64(le32([2]), Buffer.from('é'), le32([1, 70000])));
    expect(sha256.blockHash(null, 7n, 's')).toBe(7n);
    const pair = Buffer.from('0300000000000000ffffffffffffffff', 'hex');
    expect(sha256.blockHash(3n, 2n ** 64n - 1n, 's')).toBe(first64(le32([1]), Buffer.from('s'), pair));
  });
});
