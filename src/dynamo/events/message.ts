import { Encoder } from '@msgpack/msgpack';
import type { KvChange } from '../../protocol/kv-follower.ts';

/** One message of a publisher, as its subscribers know it. */
export interface EventMessage {
  readonly publisher: number;
  readonly topic: string;
  /** Grows by 1 with each message of the publisher, from 0. */
  readonly sequence: number;
  /** Milliseconds since 1970. */
  readonly publishedAt: number;
  readonly payload: Uint8Array;
}

/** A worker's rank. */
export interface RankOfWorker {
  /** u64. */
  readonly worker: number | bigint;
  readonly rank: number;
}

const VERSION = 1;

/** As `u64`: msgpack's shortest integer, which the library makes of small numbers and of bigints alone. */
const int = (value: number | bigint): number | bigint => (value >= 2 ** 32 ? BigInt(value) : Number(value));

/**
 * The four ZMQ frames of a message on Dynamo's event plane (1.4.0): topic; publisher as u64 big-endian; sequence as u64 big-endian; u8 1, u32 big-endian
 * length and the envelope, a msgpack map of all these and the payload.
 */
export function messageFrames({ publisher, topic, sequence, publishedAt, payload }: EventMessage): Uint8Array[] {
  const envelope = encode({
    publisher_id: int(publisher),
    sequence: int(sequence),
    published_at: int(publishedAt),
    topic,
    payload,
  });
  const head = Buffer.alloc(5);
  head.writeUInt8(VERSION);
  head.writeUInt32BE(envelope.length, 1);
  return [Buffer.from(topic), u64(publisher), u64(sequence), Buffer.concat([head, envelope])];
}

/** One event of a rank's prefix cache, as Dynamo's router reads it. Hashes are u64, the low 64 bits of longer ones. */
export function kvEvent({ worker, rank }: RankOfWorker, eventId: number, change: KvChange): object {
  return {
    worker_id: int(worker),
    storage_tier: 'device',
    event: { event_id: int(eventId), data: eventData(change), dp_rank: rank },
  };
}

/** Payload of a message of topic `kv-events`. */
export const kvEventsPayload = (events: readonly object[]): Uint8Array => encode(events);

/** Payload of a message of topic `kv_metrics`: blocks in use of a rank's pool. */
export function loadPayload({ worker, rank }: RankOfWorker, usedBlocks: number): Uint8Array {
  return encode({
    worker_id: int(worker),
    dp_rank: rank,
    active_decode_blocks: null,
    active_prefill_tokens: null,
    kv_used_blocks: usedBlocks,
  });
}

function eventData(change: KvChange): object | 'cleared' {
  switch (change.type) {
    case 'stored':
      return {
        stored: {
          parent_hash: change.parent === null ? null : hash(change.parent),
          start_position: null,
          blocks: change.blocks.map(({ blockHash, tokensHash }) => ({
            block_hash: hash(blockHash),
            tokens_hash: hash(tokensHash),
            mm_extra_info: null,
          })),
        },
      };
    case 'removed':
      return { removed: { block_hashes: change.blockHashes.map(hash) } };
    case 'cleared':
      return 'cleared';
  }
}

const hash = (value: bigint) => int(BigInt.asUintN(64, value));

function encode(value: unknown): Uint8Array<ArrayBuffer> {
  return new Encoder({ useBigInt64: true }).encode(value);
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}
