import { describe, expect, it } from 'vitest';
import { type AttentionArgs, attention, partialsBytes } from '../../../src/engine/kernels/attention.ts';
import { attentionBlock, workgroupBytes as blockBytes } from '../../../src/engine/kernels/attention-block.ts';
import { attentionWide, workgroupBytes } from '../../../src/engine/kernels/attention-wide.ts';

const DTYPES = ['f32', 'bf16', 'f16', 'int8'] as const;
const buffer = {} as GPUBuffer;

function calls(change: Partial<AttentionArgs>) {
  return attention({
    label: 'attention',
    variant: 'wide',
    chunks: true,
    bucket: 1,
    numHeads: 16,
    numKvHeads: 8,
    headDim: 128,
    kvDtype: 'f16',
    blockSize: 16,
    maxBlocksPerSeq: 512,
    scale: 0.1,
    slidingWindow: 0,
    softcap: 0,
    rows: buffer,
    blockTable: buffer,
    q: buffer,
    kPool: buffer,
    vPool: buffer,
    partials: buffer,
    out: buffer,
    ...change,
  });
}
const splits = (change: Partial<AttentionArgs>): boolean =>
  calls(change).some(({ shader }) => shader === 'attention_merge.wgsl');

describe('the shape of attention row by row', () => {
  it.each(DTYPES)('stays within the workgroup memory and threads that every adapter has, %s', (kvDtype) => {
    for (const headDim of [8, 40, 64, 80, 88, 96, 120, 128, 256]) {
      for (let group = 1; group <= 8; group++) {
        for (const numKvHeads of [1, 8]) {
          const sizes = { numHeads: group * numKvHeads, numKvHeads, headDim, kvDtype };
          const shape = attentionWide(sizes);
          const { LANES, KEY_EIGHTS, VALUE_KEYS, VALUE_SHARES } = shape as Record<string, number>;
          expect({ ...sizes, fits: workgroupBytes(shape, sizes) <= 16_384 }).toMatchObject({ fits: true });
          expect(LANES! % 64).toBe(0);
          expect(LANES).toBeLessThanOrEqual(256);
          // Whole chunks of keys and of values; each pair of dimensions of a share has its thread.
          expect((headDim / 8) % KEY_EIGHTS!).toBe(0);
          expect(64 % VALUE_KEYS!).toBe(0);
          expect(VALUE_KEYS! % 4).toBe(0);
          expect(VALUE_SHARES).toBeGreaterThanOrEqual(1);
          expect((VALUE_SHARES! * headDim) / 2).toBeLessThanOrEqual(LANES!);
        }
      }
    }
  });

  it('takes as much at a time as was fastest, where it fits', () => {
    const sizes = { numHeads: 16, numKvHeads: 8, headDim: 128 };
    const fastest = { LANES: 128, KEY_EIGHTS: 8, VALUE_KEYS: 32, VALUE_SHARES: 2 };
    expect(attentionWide({ ...sizes, kvDtype: 'f16' })).toEqual(fastest);
    expect(attentionWide({ ...sizes, kvDtype: 'int8' })).toEqual(fastest);
    // Queries of eight heads leave less room.
    expect(attentionWide({ numHeads: 8, numKvHeads: 1, headDim: 256, kvDtype: 'f16' })).toMatchObject({
      KEY_EIGHTS: 4,
    });
  });
});

describe('rows whose tiles are shared', () => {
  it('are few, the fewer the more KV heads they have', () => {
    expect([1, 16, 32, 64].map((bucket) => splits({ bucket }))).toEqual([true, true, false, false]);
    expect([4, 8].map((bucket) => splits({ bucket, numKvHeads: 16, numHeads: 32 }))).toEqual([true, true]);
    expect([4, 8].map((bucket) => splits({ bucket, numKvHeads: 32, numHeads: 32 }))).toEqual([true, false]);
    // Blocks of rows are for chunks, whatever the heads.
    expect([64, 128].map((bucket) => splits({ bucket, numKvHeads: 1, numHeads: 2 }))).toEqual([true, false]);
  });

  it('are shared by at most 2,048 workgroups', () => {
    const z = (change: Partial<AttentionArgs>) => calls(change)[0]!.workgroups[2];
    expect(z({})).toBe(128);
    expect(z({ maxBlocksPerSeq: 2560 })).toBe(256);
    expect(z({ bucket: 16 })).toBe(16);
  });

  it('have room for their partial sums, within bounds', () => {
    const sizes = { numHeads: 16, numKvHeads: 8, headDim: 128, maxLen: 2048 };
    const row = 16 * 32 * 130 * 4;
    expect(partialsBytes('wide', sizes)).toBe(16 * row);
    expect(partialsBytes('scalar', sizes)).toBe(16);
    // 16 rows of 40,960 tokens would be 81 MiB.
    expect(partialsBytes('wide', { ...sizes, maxLen: 40_960 })).toBe(8 * 20 * row);
    expect(splits({ bucket: 16, maxBlocksPerSeq: 2560 })).toBe(false);
    expect(splits({ bucket: 8, maxBlocksPerSeq: 2560 })).toBe(true);
    expect(partialsBytes('wide', { ...sizes, maxLen: 2 ** 20 })).toBeLessThanOrEqual(64 * 2 ** 20);
  });
});

describe('the shape of attention in blocks', () => {
  it('stays within the workgroup memory that every adapter has', () => {
    for (const bucket of [128, 2048]) {
      for (let headDim = 8; headDim <= 256; headDim += 8) {
        for (let group = 1; group <= 32; group++) {
          for (const numKvHeads of [1, 8]) {
            const block = attentionBlock({ bucket, numHeads: group * numKvHeads, numKvHeads, headDim });
            expect(block && blockBytes(block, headDim)).toBeLessThanOrEqual(16_384);
            expect(block?.THREADS).toBeLessThanOrEqual(256);
          }
        }
      }
    }
  });
});
