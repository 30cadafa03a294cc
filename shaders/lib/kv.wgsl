// Places in the paged KV pools: block ids from blockTable [slot][MAX_BLOCKS_PER_SEQ], a block is [token in block][kv head][dim], numbers as
// in lib/dtype.wgsl. DTYPE 3: integers as in lib/kv_int8.wgsl, four a word, low byte first; behind a block's integers its scales,
// [token in block][kv head] f16, two a word, low half first. So a block is one piece in either case.
// Needs: binding `block_table`, constants DTYPE, MAX_BLOCKS_PER_SEQ, BLOCK_SIZE, KV_HEADS, HEAD_DIM.

#if DTYPE == 0
const HEAD_WORDS = HEAD_DIM;
#endif
#if DTYPE == 1 || DTYPE == 2
const HEAD_WORDS = HEAD_DIM / 2;
#endif
#if DTYPE == 3
const HEAD_WORDS = HEAD_DIM / 4;
#endif
const NUMBER_WORDS = BLOCK_SIZE * KV_HEADS * HEAD_WORDS;
#if DTYPE == 3
const BLOCK_WORDS = NUMBER_WORDS + BLOCK_SIZE * KV_HEADS / 2;
#else
const BLOCK_WORDS = NUMBER_WORDS;
#endif

/// Where K, or V, of one KV head at one position lies in its pool: its first word, and (DTYPE 3) the number of its scale, in halves of words.
struct KvPlace {
  word: u32,
  scale: u32,
}

fn kv_place(slot: u32, position: u32, head: u32) -> KvPlace {
  let block = block_table[slot * MAX_BLOCKS_PER_SEQ + position / BLOCK_SIZE] * BLOCK_WORDS;
  let number = position % BLOCK_SIZE * KV_HEADS + head;
  return KvPlace(block + number * HEAD_WORDS, (block + NUMBER_WORDS) * 2 + number);
}
