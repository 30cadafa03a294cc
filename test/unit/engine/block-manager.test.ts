import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { BlockManager } from '../../../src/engine/kv/block-manager.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';

const hasher = await createBlockHasher('xxh3');
let names = 0;

function pool(totalBlocks: number, options: { blockSize?: number; prefixCaching?: boolean; order?: Uint32Array } = {}) {
  const { blockSize = 4, prefixCaching = true, order } = options;
  return new BlockManager(totalBlocks, blockSize, hasher, { prefixCaching, ...(order && { order }) });
}

function sequence(tokens: readonly number[], cacheSalt?: string, loraName?: string): Sequence {
  const request = {
    request: `r${names++}`,
    prompt: [...tokens],
    choices: [],
    sampling: GREEDY,
    ...(cacheSalt && { cacheSalt }),
    ...(loraName && { loraName }),
  };
  return new Sequence(request, 0, [], 10_000);
}

/** Computes a whole prompt at once, as if its step had been read back; returns how many blocks came from the cache. */
function compute(blocks: BlockManager, s: Sequence): number {
  const hits = blocks.match(s);
  expect(blocks.admit(s, hits, s.tokens.length)).toBe(true);
  s.computed = s.tokens.length;
  blocks.register(s);
  return hits.length;
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

describe('prefix cache', () => {
  it('H3: a sequence that does not cache hits nothing, stores nothing, and makes no event', () => {
    const blocks = pool(16);
    compute(blocks, sequence(range(0, 12)));
    blocks.takeEvents();
    const before = blocks.snapshot();
    const request = { request: 'canary', choices: [], sampling: GREEDY, cache: false as const };
    for (const prompt of [range(0, 12), range(100, 12)]) {
      const canary = new Sequence({ ...request, prompt }, 0, [], 10_000);
      expect(canary.readsCache).toBe(false);
      expect(compute(blocks, canary)).toBe(0);
      blocks.free(canary);
    }
    expect(blocks.takeEvents()).toEqual([]);
    expect(blocks.snapshot()).toEqual(before);
    expect(blocks.match(sequence(range(100, 13)))).toEqual([]);
  });

  it('serves the longest cached chain of full blocks, never the last token', () => {
    const blocks = pool(16);
    const first = sequence(range(0, 12));
    expect(compute(blocks, first)).toBe(0);
    // 12 tokens again: the third block holds the last token, which must be computed.
    expect(blocks.match(sequence(range(0, 12)))).toEqual(first.blocks.slice(0, 2));
    expect(blocks.match(sequence(range(0, 13)))).toEqual(first.blocks);
    expect(blocks.match(sequence([...range(0, 8), 9, 9, 9, 9, 9]))).toEqual(first.blocks.slice(0, 2));
    // The same tokens after another beginning are another prefix.
    expect(blocks.match(sequence([...range(100, 4), ...range(4, 9)]))).toEqual([]);
  });

  it('keeps salts apart', () => {
    const blocks = pool(16);
    compute(blocks, sequence(range(0, 9), 'a'));
    expect(blocks.match(sequence(range(0, 9), 'b'))).toEqual([]);
    expect(blocks.match(sequence(range(0, 9)))).toEqual([]);
    expect(blocks.match(sequence(range(0, 9), 'a'))).toHaveLength(2);
  });

  it('is off without prefix caching: no hits, no events', () => {
    const blocks = pool(16, { prefixCaching: false });
    compute(blocks, sequence(range(0, 9)));
    expect(blocks.match(sequence(range(0, 9)))).toEqual([]);
    expect(blocks.takeEvents()).toEqual([]);
  });

  it('keeps freed blocks until they are needed, and takes the least recently freed first', () => {
    const blocks = pool(6);
    const old = sequence(range(0, 8));
    const young = sequence(range(50, 8));
    compute(blocks, old);
    compute(blocks, young);
    blocks.free(old);
    blocks.free(young);
    expect(blocks.usedBlocks).toBe(0);
    expect(blocks.cachedBlocks).toBe(4);
    // Two blocks were never used; the third one needed is the tail of `old`.
    compute(blocks, sequence(range(90, 11)));
    expect(blocks.match(sequence(range(0, 9)))).toHaveLength(1);
    expect(blocks.match(sequence(range(50, 9)))).toHaveLength(2);
  });

  it('hands out freed blocks that are not cached before cached ones', () => {
    const blocks = pool(4);
    const s = sequence(range(0, 6));
    compute(blocks, s);
    const [cached, partial] = s.blocks;
    blocks.free(s);
    const next = sequence([7]);
    blocks.grow(next, 1);
    expect(next.blocks).toEqual([partial]);
    blocks.grow(next, 12);
    expect(next.blocks).not.toContain(cached);
  });

  it('counts hits on free blocks against the free ones', () => {
    const blocks = pool(3);
    const first = sequence(range(0, 9));
    compute(blocks, first);
    blocks.free(first);
    const longer = sequence(range(0, 13));
    const hits = blocks.match(longer);
    expect(hits).toHaveLength(2);
    expect(blocks.admit(longer, hits, 13)).toBe(false);
    expect(blocks.usedBlocks).toBe(0);
    expect(blocks.admit(longer, hits, 12)).toBe(true);
    expect([...blocks.blockMap()]).toEqual([2, 2, 2]);
  });

  it('moves a sequence that filled a twin of a cached block to that block', () => {
    const blocks = pool(8);
    const a = sequence(range(0, 9));
    const b = sequence(range(0, 9));
    // Both start before anything is cached.
    for (const s of [a, b]) blocks.admit(s, blocks.match(s), 9);
    const before = [...b.blocks];
    for (const s of [a, b]) {
      s.stale = [];
      s.computed = 9;
      blocks.register(s);
    }
    expect(b.blocks).toEqual([a.blocks[0], a.blocks[1], before[2]]);
    expect(b.stale).toEqual([0, 1]);
    expect(a.stale).toEqual([]);
    expect([...blocks.blockMap()].sort()).toEqual([0, 0, 0, 0, 2, 2, 3, 3]);
    blocks.free(a);
    expect(blocks.usedBlocks).toBe(3);
  });

  it('shows each block as free, cached, in use or shared', () => {
    const blocks = pool(5, { order: Uint32Array.of(4, 2, 0, 1, 3) });
    const a = sequence(range(0, 9));
    compute(blocks, a);
    expect(a.blocks).toEqual([4, 2, 0]);
    const b = sequence(range(0, 7));
    expect(compute(blocks, b)).toBe(1);
    expect([...blocks.blockMap()]).toEqual([2, 2, 2, 0, 3]);
    blocks.free(a);
    expect([...blocks.blockMap()]).toEqual([0, 2, 1, 0, 2]);
  });

  it('holds a pool of a million blocks', () => {
    const total = 1_000_000;
    const blocks = pool(total, { blockSize: 1 });
    const s = sequence([1]);
    expect(blocks.grow(s, total)).toBe(true);
    expect(blocks.grow(s, total + 1)).toBe(false);
    blocks.free(s);
    expect(blocks.freeBlocks).toBe(total);
  });

  it('refuses an order that is none, and a double release', () => {
    expect(() => pool(3, { order: Uint32Array.of(0, 1) })).toThrow('order names 2 of 3 blocks');
    expect(() => pool(3, { blockSize: 0 })).toThrow(RangeError);
    const blocks = pool(3);
    const s = sequence([1]);
    blocks.grow(s, 1);
    const held = [...s.blocks];
    blocks.free(s);
    s.blocks = held;
    expect(() => blocks.free(s)).toThrow('released more often');
  });
});

describe('events', () => {
  const U64 = z.string().transform((s) => BigInt(s.replace('u64:', '')));
  const Capture = z.object({
    check: z.object({ tokens: z.array(z.number()) }),
    messages: z.tuple([z.object({ batch: z.tuple([z.object({ event: z.unknown() })]) }), z.unknown(), z.unknown()]),
  });
  const Stored = z.object({
    event_id: z.number(),
    data: z.object({
      stored: z.object({
        parent_hash: U64.nullable(),
        blocks: z.array(z.object({ block_hash: U64, tokens_hash: U64 })),
      }),
    }),
  });

  it("are those of Dynamo's mocker for the same prompt (K3, K6)", () => {
    const text = readFileSync(new URL('../../fixtures/dynamo/kv-events-mocker.json', import.meta.url), 'utf8');
    const { check, messages } = Capture.parse(JSON.parse(text));
    const expected = Stored.parse(messages[0].batch[0].event);
    const blocks = pool(8, { blockSize: 16 });
    compute(blocks, sequence(check.tokens));
    const [event, ...more] = blocks.takeEvents();
    expect(more).toEqual([]);
    if (event?.type !== 'stored') throw new Error('no stored event');
    expect(event.eventId).toBe(expected.event_id);
    expect(event.parent).toBe(expected.data.stored.parent_hash);
    expect(event.blocks.map(({ blockHash, tokensHash }) => [blockHash, tokensHash])).toEqual(
      expected.data.stored.blocks.map((b) => [b.block_hash, b.tokens_hash]),
    );
    expect(event.blocks.flatMap((b) => b.tokens)).toEqual(check.tokens.slice(0, 32));
  });

  it('store a hash once, go on from the cached parent, and name the salt (K3, K7)', () => {
    const blocks = pool(16);
    compute(blocks, sequence(range(0, 8), 'tenant'));
    compute(blocks, sequence(range(0, 13), 'tenant'));
    const [first, second, ...more] = blocks.takeEvents();
    expect(more).toEqual([]);
    if (first?.type !== 'stored' || second?.type !== 'stored') throw new Error('no stored events');
    expect([first.parent, first.blocks.length, first.cacheSalt]).toEqual([null, 2, 'tenant']);
    expect([second.parent, second.blocks.length]).toEqual([first.blocks[1]!.blockHash, 1]);
    expect(second.blocks[0]!.tokens).toEqual([8, 9, 10, 11]);
  });

  it('remove children before their parents (K4)', () => {
    const blocks = pool(3);
    const s = sequence(range(0, 12));
    compute(blocks, s);
    blocks.free(s);
    const [stored] = blocks.takeEvents();
    if (stored?.type !== 'stored') throw new Error('no stored event');
    blocks.grow(sequence([1]), 12);
    const hashes = stored.blocks.map((b) => b.blockHash).reverse();
    expect(blocks.takeEvents()).toEqual([{ type: 'removed', eventId: 2, blockHashes: hashes }]);
  });

  it('store nothing before the token that fills the block was read back (K4)', () => {
    const blocks = pool(4);
    const s = sequence(range(0, 8));
    blocks.admit(s, blocks.match(s), 8);
    s.computed = 7;
    blocks.register(s);
    expect(blocks.cachedBlocks).toBe(1);
    s.computed = 8;
    blocks.register(s);
    expect(blocks.cachedBlocks).toBe(2);
  });

  it('name the LoRA adapter, and share nothing between adapters (G6, K7)', () => {
    const blocks = pool(16);
    compute(blocks, sequence(range(0, 8)));
    const found = [undefined, 'one', 'two', 'one'].map((name) => {
      const s = sequence(range(0, 9), undefined, name);
      return [name, compute(blocks, s)];
    });
    expect(found).toEqual([
      [undefined, 2],
      ['one', 0],
      ['two', 0],
      ['one', 2],
    ]);
    const stored = blocks.takeEvents().flatMap((event) => (event.type === 'stored' ? [event] : []));
    expect(stored.map(({ loraName }) => loraName)).toEqual([undefined, 'one', 'two']);
    expect(new Set(stored.flatMap((event) => event.blocks.map(({ blockHash }) => blockHash))).size).toBe(6);
    expect(blocks.snapshot().blocks.map(({ loraName }) => loraName)).toEqual([
      ...[undefined, undefined],
      ...['one', 'one', 'two', 'two'],
    ]);
  });

  it('remove what an adapter computed when it goes, children first, and nothing else (K13)', () => {
    const blocks = pool(16);
    const [plain, tuned] = [sequence(range(0, 8)), sequence(range(0, 12), undefined, 'one')];
    compute(blocks, plain);
    compute(blocks, tuned);
    const [, stored] = blocks.takeEvents();
    if (stored?.type !== 'stored') throw new Error('no stored event');
    blocks.forgetLora('two');
    expect(blocks.takeEvents()).toEqual([]);
    blocks.free(tuned);
    blocks.forgetLora('one');
    const hashes = stored.blocks.map(({ blockHash }) => blockHash).reverse();
    expect(blocks.takeEvents()).toEqual([{ type: 'removed', eventId: 3, blockHashes: hashes }]);
    expect(blocks.cachedBlocks).toBe(2);
    // Another adapter of that name finds nothing; the blocks serve again.
    const again = sequence(range(0, 13), undefined, 'one');
    expect(compute(blocks, again)).toBe(0);
    expect(compute(blocks, sequence(range(0, 9)))).toBe(2);
  });

  it('clear everything, after which running sequences store nothing more (K5)', () => {
    const blocks = pool(8);
    const s = sequence(range(0, 8));
    compute(blocks, s);
    blocks.clear();
    s.tokens.push(...range(8, 5));
    blocks.grow(s, 13);
    s.computed = 13;
    blocks.register(s);
    expect(blocks.takeEvents().map((e) => [e.eventId, e.type])).toEqual([
      [1, 'stored'],
      [2, 'cleared'],
    ]);
    expect(blocks.snapshot()).toEqual({ lastEventId: 2, blocks: [] });
    blocks.free(s);
    expect(compute(blocks, sequence(range(0, 8)))).toBe(0);
    expect(blocks.cachedBlocks).toBe(2);
  });

  it('there is nothing to clear, and no event, without prefix caching', () => {
    const blocks = new BlockManager(4, 4, hasher, { prefixCaching: false });
    blocks.clear();
    expect(blocks.takeEvents()).toEqual([]);
  });

  it('add up to the snapshot, parents first (K8)', () => {
    const blocks = pool(8);
    compute(blocks, sequence(range(0, 8)));
    compute(blocks, sequence([...range(0, 4), 9, 9, 9, 9, 1], 'salt'));
    const { lastEventId, blocks: known } = blocks.snapshot();
    expect(lastEventId).toBe(2);
    expect(known.map(({ block, cacheSalt }) => [block.tokens, cacheSalt])).toEqual([
      [[0, 1, 2, 3], undefined],
      [[4, 5, 6, 7], undefined],
      [[0, 1, 2, 3], 'salt'],
      [[9, 9, 9, 9], 'salt'],
    ]);
    expect(known.map((k) => k.parent)).toEqual([null, known[0]!.block.blockHash, null, known[2]!.block.blockHash]);
  });
});
