// Places in the paged KV pool: [block][token in block][kv head][dim], block ids from blockTable [slot][MAX_BLOCKS_PER_SEQ].
// Needs: binding `block_table`, constants MAX_BLOCKS_PER_SEQ, BLOCK_SIZE, KV_HEADS, HEAD_DIM.

/// Number of the first element of one KV head at one position of a slot.
fn kv_element(slot: u32, position: u32, head: u32) -> u32 {
  let block = block_table[slot * MAX_BLOCKS_PER_SEQ + position / BLOCK_SIZE];
  return ((block * BLOCK_SIZE + position % BLOCK_SIZE) * KV_HEADS + head) * HEAD_DIM;
}
