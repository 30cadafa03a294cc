import { Encoder } from '@msgpack/msgpack';
import type { KvChange } from '../../protocol/kv-follower.ts';

/** vLLM's word for blocks that are in the engine's own pool. */
const MEDIUM = 'GPU';
const FIELDS = 3;
const FLOAT64 = 0xcb;

/**
 * One `KVEventBatch` of vLLM 0.11.0 (`vllm/distributed/kv_events.py`) as msgpack. msgspec writes structs as arrays:
 * [ts, events, data_parallel_rank], and events as
 * ["BlockStored", block_hashes, parent_block_hash, token_ids, block_size, lora_id, medium] with lora_name behind them where there is an adapter
 * (vLLM has it since 0.12; older readers pass over it, and its number lora_id was of one process alone: null here),
 * ["BlockRemoved", block_hashes, medium] and ["AllBlocksCleared"]. Hashes are u64, the low 64 bits of longer ones.
 * ts: seconds since 1970.
 */
export function encodeBatch(ts: number, changes: readonly KvChange[], rank: number): Uint8Array<ArrayBuffer> {
  const encoder = new Encoder({ useBigInt64: true });
  const events = encoder.encode(changes.map(eventOf));
  const head = new DataView(new ArrayBuffer(10));
  head.setUint8(0, 0x90 | FIELDS);
  // Written here, since the library would make an integer of a whole number of seconds.
  head.setUint8(1, FLOAT64);
  head.setFloat64(2, ts);
  return new Uint8Array(Buffer.concat([new Uint8Array(head.buffer), events, encoder.encode(rank)]));
}

function eventOf(change: KvChange): readonly unknown[] {
  switch (change.type) {
    case 'stored': {
      const { parent, blocks, loraName } = change;
      const hashes = blocks.map(({ blockHash }) => u64(blockHash));
      const tokens = blocks.flatMap((block) => block.tokens);
      const blockSize = blocks[0]?.tokens.length ?? 0;
      const named = loraName === undefined ? [] : [loraName];
      return ['BlockStored', hashes, parent === null ? null : u64(parent), tokens, blockSize, null, MEDIUM, ...named];
    }
    case 'removed':
      return ['BlockRemoved', change.blockHashes.map(u64), MEDIUM];
    case 'cleared':
      return ['AllBlocksCleared'];
  }
}

/** The library writes a bigint always in nine bytes; msgspec writes the shortest form. */
function u64(hash: bigint): bigint | number {
  const low = BigInt.asUintN(64, hash);
  return low < 1n << 32n ? Number(low) : low;
}
