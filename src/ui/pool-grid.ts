/** How the block pool is laid out and coloured; pure, `block-pool.tsx` draws. */

/** States of a block, by value: the bytes of `NodeSnapshot.blockMap`. */
export const BLOCK_STATES = ['free', 'cached', 'used', 'shared'] as const;
export type BlockState = (typeof BLOCK_STATES)[number];

export interface PoolGrid {
  readonly columns: number;
  readonly rows: number;
  /** Pixels from one cell to the next, the gap of one pixel included. */
  readonly pitch: number;
  /** 1, unless the pool is too large for a cell each. */
  readonly blocksPerCell: number;
}

const LARGEST_PITCH = 14;
const SMALLEST_PITCH = 3;

/** The grid with the largest cells that shows `blocks` in `width` x `maxHeight` pixels; blocks share cells when even the smallest ones are too many. */
export function poolGrid(blocks: number, width: number, maxHeight: number): PoolGrid {
  for (let pitch = LARGEST_PITCH; pitch >= SMALLEST_PITCH; pitch--) {
    const columns = Math.max(1, Math.floor(width / pitch));
    const rows = Math.ceil(blocks / columns);
    if (rows * pitch <= maxHeight) return { columns, rows, pitch, blocksPerCell: 1 };
  }
  const columns = Math.max(1, Math.floor(width / SMALLEST_PITCH));
  const most = columns * Math.max(1, Math.floor(maxHeight / SMALLEST_PITCH));
  const blocksPerCell = Math.ceil(blocks / most);
  return { columns, rows: Math.ceil(blocks / blocksPerCell / columns), pitch: SMALLEST_PITCH, blocksPerCell };
}

/** One state per cell: the busiest of its blocks. */
export function cellStates(map: Uint8Array, blocksPerCell: number): Uint8Array {
  if (blocksPerCell === 1) return map;
  const cells = new Uint8Array(Math.ceil(map.length / blocksPerCell));
  for (const [block, state] of map.entries()) {
    const cell = Math.floor(block / blocksPerCell);
    if (state > cells[cell]!) cells[cell] = state;
  }
  return cells;
}

/** How many blocks are in each state. */
export function tally(map: Uint8Array): Record<BlockState, number> {
  const counts = [0, 0, 0, 0];
  for (const state of map) counts[state] = (counts[state] ?? 0) + 1;
  const [free = 0, cached = 0, used = 0, shared = 0] = counts;
  return { free, cached, used, shared };
}
