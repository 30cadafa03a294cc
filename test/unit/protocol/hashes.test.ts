import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { createXXHash3, xxhash3 } from 'hash-wasm';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { type BlockHasher, createBlockHasher } from '../../../src/protocol/hashes.ts';
import { BlockHash, U64 } from '../../../src/protocol/kv-events.ts';

const Captured = z.string().transform((s) => BigInt(s.replace('u64:', '')));
const Check = z.object({
  check: z.object({ tokens: z.array(z.number()), local: z.array(Captured), seq: z.array(Captured) }),
});
const Stored = z.object({
  parent_hash: Captured.nullable(),
  blocks: z.array(z.object({ block_hash: Captured, tokens_hash: Captured })),
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
    expect(hasher.blockHash(parent, hashed(block.tokens_hash))).toBe(block.block_hash);
    parent = block.block_hash;
  }
}

/** A block of which only the hash counts. */
const hashed = (tokensHash: bigint) => ({ tokensHash, tokens: [] });

const hasher = await createBlockHasher('xxh3');

describe('xxh3 block hashes (K2)', () => {
  it('are the known ones of three chained blocks', () => {
    const first = hasher.tokensHash([1, 2, 3, 4]);
    const second = hasher.tokensHash([5, 6, 7, 8]);
    const third = hasher.tokensHash([9, 10, 11, 12]);
    expect([first, second, third]).toEqual([14643705804678351452n, 16777012769546811212n, 483935686894639516n]);
    const chained = hasher.blockHash(hasher.blockHash(null, hashed(first)), hashed(second));
    expect([hasher.blockHash(null, hashed(first)), chained]).toEqual([first, 4945711292740353085n]);
    expect(hasher.blockHash(chained, hashed(third))).toBe(12583592247330656132n);
  });

  it("are those of Dynamo's mocker for a list of tokens", () => {
    const { tokens, local, seq } = Check.parse(capture('kv-events-mocker')).check;
    let parent: bigint | null = null;
    for (const [i, tokensHash] of local.entries()) {
      expect(hasher.tokensHash(tokens.slice(16 * i, 16 * i + 16))).toBe(tokensHash);
      parent = hasher.blockHash(parent, hashed(tokensHash));
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
    expect(hasher.tokensHash([1, 2, 3, 4], { cacheSalt: 'tenant-a' })).toBe(await seeded(le32([1, 2, 3, 4]), seed));
    const pair = Buffer.alloc(16);
    pair.writeBigUInt64LE(5n, 0);
    pair.writeBigUInt64LE(2n ** 64n - 1n, 8);
    expect(hasher.blockHash(5n, hashed(2n ** 64n - 1n), { cacheSalt: 'tenant-a' })).toBe(await seeded(pair, seed));
  });

  it('equal those of a hasher made with the seed, for any salt and any block size', async () => {
    const salt = fc.string({ minLength: 1, maxLength: 80, unit: 'grapheme' });
    const tokens = fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 1024, size: 'max' });
    await fc.assert(
      fc.asyncProperty(salt, tokens, async (salt, tokens) => {
        const shift = BigInt(`0x${await xxhash3(new TextEncoder().encode(salt), 1, 0)}`);
        const seed = BigInt.asUintN(64, 1337n + shift);
        expect(hasher.tokensHash(tokens, { cacheSalt: salt })).toBe(await seeded(le32(tokens), seed));
        expect(hasher.tokensHash(tokens)).toBe(await seeded(le32(tokens), 1337n));
      }),
      { numRuns: 150 },
    );
  });

  it("take Dynamo's seed for a LoRA adapter, and for one under a salt", async () => {
    const of = async (text: string, seed: number) =>
      BigInt(`0x${await xxhash3(new TextEncoder().encode(text), seed, 0)}`);
    const lora = await of('sql-lora', 0);
    const salt = await of('tenant-a', 1);
    const tokens = Array.from({ length: 16 }, (_, i) => i * 1000);
    const bytes = le32(tokens);
    const scope = { loraName: 'sql-lora' };
    expect(hasher.tokensHash(tokens, scope)).toBe(await seeded(bytes, BigInt.asUintN(64, 1337n + lora)));
    const pair = Buffer.alloc(16);
    pair.writeBigUInt64LE(5n, 0);
    pair.writeBigUInt64LE(7n, 8);
    expect(hasher.blockHash(5n, hashed(7n), scope)).toBe(await seeded(pair, BigInt.asUintN(64, 1337n + lora)));
    const both = BigInt.asUintN(64, 1337n + lora + salt);
    expect(hasher.tokensHash(tokens, { ...scope, cacheSalt: 'tenant-a' })).toBe(await seeded(bytes, both));
    // Where one name ends and the other begins is part of it.
    expect(hasher.tokensHash(tokens, { loraName: 'ab', cacheSalt: 'c' })).not.toBe(
      hasher.tokensHash(tokens, { loraName: 'a', cacheSalt: 'bc' }),
    );
  });
});

describe('sha256 block hashes (K2)', () => {
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
  // Made with Python's hashlib and cbor2 6.2.1, canonical, by the rules of vLLM's sha256_cbor.
  const golden: readonly [
    string,
    { seed?: string; salt?: string; lora?: string; size: number; tokens: number[] },
    string[],
  ][] = [
    [
      'ids of every length in CBOR',
      { size: 4, tokens: [0, 23, 24, 255, 256, 65535, 65536, 4294967295, ...range(1, 9)] },
      [
        'ca90027d467f8ae0c02e71aa4eff29f116d1b74ca16446a60ab640f53e976f43',
        'fabd8e12e7d8d54418d0a583d8a28c5d5739bff376f10eb24575cf52e0e0a83a',
        '3c6f0058918766c80f9a8daa4829f75211d99cc2bdbd71b6650855db4a857dba',
        '76e4bb3e544e95f8385f0a2e8a233a8218207a100e2c0adb97a2929aa85ff65d',
      ],
    ],
    [
      'a salt, which is in the first block alone',
      { size: 8, salt: 'é-tenant', tokens: [0, 23, 24, 255, 256, 65535, 65536, 4294967295, ...range(1, 9)] },
      [
        '5492e806763d8d9db3e95e216e72e4f14ee6924e439d912a63f89b9458f8cd14',
        '230cf50d13455489c9d5872e292217739169e09ee4910cf389f605ca349d4837',
      ],
    ],
    [
      'a LoRA adapter, which is in every block',
      { size: 8, lora: 'sql-lora', tokens: [0, 23, 24, 255, 256, 65535, 65536, 4294967295, ...range(1, 9)] },
      [
        'ac89b8de1c2e997f0eb984fb7b3c50f4250eb3c53a789897c345423c4b23b345',
        '374b17085a6c51d0183b7fd1854407b8b1b88c9d3fd96aa19f1ce43a89df3e14',
      ],
    ],
    [
      'a LoRA adapter under a salt',
      {
        size: 8,
        lora: 'sql-lora',
        salt: 'é-tenant',
        tokens: [0, 23, 24, 255, 256, 65535, 65536, 4294967295, ...range(1, 9)],
      },
      [
        'd87e8e785304b9309cfaac2bb0ba6306a2fdb0f7e71076e69115c061d2c9aeac',
        '119ad095e5783475d1fa03e1fd42edd133d1adf2a39b245593535f5be88fe4e9',
      ],
    ],
    [
      'another seed',
      { size: 16, seed: '42', tokens: range(1, 33) },
      [
        '476e88fb0c175c0b4ef0343e158b5157c2ac537d37d97830e235fcc84bc5706d',
        '9c89b9f2af12de95c90eb76195371e73760b4df4aa7617587856ae50e4ba5af8',
      ],
    ],
    [
      'a long salt',
      { size: 16, salt: 'x'.repeat(300), tokens: range(1, 33) },
      [
        '2e57759c6193230968fa04cb76645469267cadeef6565d88469e41969b699853',
        '66a13a3d31dfa58af827946f04cf4c6f98618ccc220b0f94185abb11e00768ca',
      ],
    ],
    [
      'long blocks',
      { size: 600, tokens: range(0, 1200) },
      [
        '43b46ca2c646d7c2c8e9eae9403e2f53acae16e323b47f4c292cde516cd3e3bf',
        'df34ed622a0603be34df5b099c1dbb0a8c6fab88c52ff270dbe57fb7e07d0098',
      ],
    ],
  ];

  it.each(golden)("are vLLM's sha256_cbor: %s", async (_, { seed, salt, lora, size, tokens }, digests) => {
    const sha256 = await createBlockHasher('sha256', seed);
    const scope = { cacheSalt: salt, loraName: lora };
    let parent: bigint | null = null;
    for (const [i, digest] of digests.entries()) {
      const own = tokens.slice(i * size, (i + 1) * size);
      parent = sha256.blockHash(parent, { tokens: own, tokensHash: sha256.tokensHash(own, scope) }, scope);
      expect(parent.toString(16).padStart(64, '0')).toBe(digest);
    }
  });

  it('go as they are through JSON, and nothing longer does', () => {
    const longest = (1n << 256n) - 1n;
    expect(BlockHash.parse(String(longest))).toBe(longest);
    expect(BlockHash.safeParse(String(longest + 1n)).success).toBe(false);
    expect(U64.safeParse(String(1n << 64n)).success).toBe(false);
    expect(U64.parse(String((1n << 64n) - 1n))).toBe((1n << 64n) - 1n);
  });

  it("leave tokensHash as Dynamo's", async () => {
    const sha256 = await createBlockHasher('sha256');
    expect(sha256.tokensHash([1, 2, 3, 4])).toBe(14643705804678351452n);
    expect(sha256.tokensHash([1, 2, 3, 4], { cacheSalt: 'tenant-a' })).toBe(
      hasher.tokensHash([1, 2, 3, 4], { cacheSalt: 'tenant-a' }),
    );
  });
});
