import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Product, type ProductArgs, product } from '../../../src/engine/kernels/product.ts';

const none = {} as GPUBuffer;
/** Bytes of workgroup memory that every adapter has. */
const WORKGROUP_BYTES = 16_384;

function shapeOf(size: Pick<ProductArgs, 'variant' | 'bucket' | 'n' | 'k' | 'kind'>, lines: number): Product {
  const buffers = { step: none, input: none, weight: none, out: none };
  return product({ label: '', dtype: 'bf16', countWord: 0, ...size, ...buffers }, lines);
}

const sizes = fc.record({
  variant: fc.constantFrom('scalar' as const, 'wide' as const),
  bucket: fc.integer({ min: 0, max: 12 }).map((log) => 2 ** log),
  k: fc.integer({ min: 1, max: 20_000 }),
  n: fc.integer({ min: 1, max: 300_000 }),
});
const lines = fc.constantFrom(1, 2);

describe('workgroups of products', () => {
  it('cover all rows and columns, at any size', () => {
    fc.assert(
      fc.property(sizes, lines, (size, each) => {
        const { tile, workgroups } = shapeOf(size, each);
        expect(workgroups[2] * tile.rows).toBeGreaterThanOrEqual(size.bucket);
        expect(workgroups[0] * workgroups[1] * tile.columns).toBeGreaterThanOrEqual(size.n);
        expect(Math.max(...workgroups)).toBeLessThanOrEqual(65_535);
      }),
    );
  });

  it('of lanes write each output once, and add up in the memory that every adapter has', () => {
    fc.assert(
      fc.property(sizes, lines, (size, each) => {
        const { constants, tile } = shapeOf({ ...size, variant: 'wide', kind: 'lanes' }, each);
        const { ROWS = 0, COLUMNS = 0, LANES = 0, WORKGROUP } = constants;
        expect(WORKGROUP).toBe(LANES);
        expect(tile.rows * tile.columns).toBeLessThanOrEqual(LANES);
        expect(4 * LANES * ROWS * COLUMNS).toBeLessThanOrEqual(WORKGROUP_BYTES);
      }),
    );
  });

  it('of blocks stage numbers of k that divide every run of it, in the memory that every adapter has', () => {
    fc.assert(
      fc.property(sizes, lines, (size, each) => {
        const k = 8 * size.k;
        const { kind, constants, tile } = shapeOf({ ...size, k, variant: 'wide', kind: 'block' }, each);
        expect(kind).toBe('block');
        const { TX = 0, TY = 0, ROW_GROUPS = 0, LINE_GROUPS = 0, DEPTH = 0, SEGMENTS = 0 } = constants;
        const { BLOCK_ROWS = 0, BLOCK_LINES = 0 } = constants;
        expect([BLOCK_ROWS, BLOCK_LINES]).toEqual([4 * TY * ROW_GROUPS, 4 * TX * LINE_GROUPS]);
        expect([BLOCK_ROWS % 32, BLOCK_LINES % 32, LINE_GROUPS % each]).toEqual([0, 0, 0]);
        expect(tile).toEqual({ rows: BLOCK_ROWS, columns: BLOCK_LINES / each });
        expect([k % DEPTH, (8 * Math.ceil(size.k / SEGMENTS)) % DEPTH]).toEqual([0, 0]);
        expect(4 * DEPTH * (BLOCK_ROWS + BLOCK_LINES)).toBeLessThanOrEqual(WORKGROUP_BYTES);
      }),
    );
  });

  it('are blocks only where enough of them go round', () => {
    const kindOf = (bucket: number, n: number, k = 1024) => shapeOf({ variant: 'wide', bucket, n, k }, 1).kind;
    expect(kindOf(2048, 4096)).toBe('block');
    expect(kindOf(128, 4096)).toBe('block');
    expect(kindOf(128, 1024)).toBe('lanes');
    expect(kindOf(8, 200_000)).toBe('lanes');
    expect(kindOf(2048, 4096, 1001)).toBe('lanes');
    expect(shapeOf({ variant: 'scalar', bucket: 2048, n: 4096, k: 1024 }, 1).kind).toBe('lanes');
  });
});
