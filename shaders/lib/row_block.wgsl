// Blocks of rows: rows of one slot that stand side by side in a step, with ascending positions, cut at absolute multiples of BLOCK_ROWS
// positions (a power of two, at most 64). A row without such a neighbour is no block. Found from the rows themselves, so that any mix of
// chunks and decodes needs no list of its own.
// Needs: binding `rows`, constant BLOCK_ROWS. `count`: rows dispatched; `rows` may hold older ones behind them.

/// Whether row `row + offset` is the one at `offset` positions after `row`, in the same block.
fn in_block(row: u32, offset: u32, count: u32) -> bool {
  if (row + offset >= count) {
    return false;
  }
  let here = rows[row];
  let there = rows[row + offset];
  return here.w != 0 && there.w != 0 && here.x == there.x && here.y + offset == there.y
    && here.y % BLOCK_ROWS + offset < BLOCK_ROWS;
}

/// Whether `row` is one of a block, but not its first.
fn follows(row: u32, count: u32) -> bool {
  return row > 0 && in_block(max(row, 1) - 1, 1, count);
}

/// Whether a block begins with `row`.
fn leads(row: u32, count: u32) -> bool {
  return in_block(row, 1, count) && !follows(row, count);
}
