import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cellStates, poolGrid, tally } from '../../../src/ui/pool-grid.ts';

describe('the grid of the block pool', () => {
  const sizes = fc.record({
    blocks: fc.integer({ min: 1, max: 200_000 }),
    width: fc.integer({ min: 30, max: 900 }),
    maxHeight: fc.integer({ min: 30, max: 400 }),
  });

  test('has room for every block and stays in its place', () => {
    fc.assert(
      fc.property(sizes, ({ blocks, width, maxHeight }) => {
        const { columns, rows, pitch, blocksPerCell } = poolGrid(blocks, width, maxHeight);
        expect(columns * rows * blocksPerCell).toBeGreaterThanOrEqual(blocks);
        expect(columns * pitch).toBeLessThanOrEqual(width);
        expect(rows * pitch).toBeLessThanOrEqual(maxHeight);
      }),
    );
  });

  test('has the largest cells that fit', () => {
    fc.assert(
      fc.property(sizes, ({ blocks, width, maxHeight }) => {
        const { pitch, blocksPerCell } = poolGrid(blocks, width, maxHeight);
        const larger = pitch + 1;
        const fits = Math.ceil(blocks / Math.floor(width / larger)) * larger <= maxHeight;
        expect(fits && pitch < 14).toBe(false);
        // Blocks share a cell only at the smallest size.
        if (blocksPerCell > 1) expect(pitch).toBe(3);
      }),
    );
  });

  test('a cell shows the busiest of its blocks', () => {
    const map = Uint8Array.from([0, 1, 0, 0, 2, 1, 3, 0, 1]);
    expect([...cellStates(map, 2)]).toEqual([1, 0, 2, 3, 1]);
    expect([...cellStates(map, 1)]).toEqual([...map]);
  });

  test('the tally counts every block once', () => {
    expect(tally(Uint8Array.from([0, 1, 1, 2, 3, 3, 3, 0]))).toEqual({ free: 2, cached: 2, used: 1, shared: 3 });
  });
});
