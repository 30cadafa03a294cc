import * as z from 'zod';
import { BlockHash, MAX_EVENT_BLOCKS, U64 } from './kv-events.ts';

const count = z.number().int().min(0);
const text = z.string().max(4096);

/** Ways for KV blocks from one node to another, best first: same browser profile, the hub's bulk socket, a WebRTC data channel. */
export const TransportName = z.enum(['local', 'relay', 'webrtc']);
export type TransportName = z.infer<typeof TransportName>;

/** Names one handing over of a prompt's blocks; also the name of the prompt's computation on the prefill node. */
export const TransferId = z.string().min(1).max(128);

/** Largest payload of one `blocks` frame, bytes. */
export const MAX_PAYLOAD_BYTES = 4 << 20;
/** Largest message of a bulk socket: a payload with its header, and the id of its transfer. */
export const MAX_BULK_MESSAGE_BYTES = MAX_PAYLOAD_BYTES + (1 << 20);
/** Frames that may be on their way, or wait, unacknowledged. */
export const MAX_CREDIT = 64;

/**
 * Which part of a prompt's KV a payload holds. Layout of the payload:
 * [layer][K, V][block][token in block][KV head][head dim], in the KV dtype, without padding.
 */
export const KvSection = z.object({ firstBlock: count, blocks: count, firstLayer: count, layers: count });
export type KvSection = z.infer<typeof KvSection>;

/** Bytes of a section's payload. layerBlockBytes: of the K, or the V, of one block in one layer. */
export function sectionBytes({ blocks, layers }: KvSection, layerBlockBytes: number): number {
  return layers * 2 * blocks * layerBlockBytes;
}

/** What the decode node wants: blocks `firstBlock` and following of the prompt, by their chained hashes. */
export const Wanted = z.object({ firstBlock: count, hashes: z.array(BlockHash).min(1).max(MAX_EVENT_BLOCKS) });
export type Wanted = z.infer<typeof Wanted>;

/** How a transfer ended, as the decode node tells it. */
export const TransferOutcome = z.discriminatedUnion('kind', [
  /** All wanted blocks are in the prefix cache of the decode node. */
  z.object({
    kind: z.literal('done'),
    transport: TransportName,
    blocks: count,
    bytes: count,
    /** Prompt tokens that the prefill node computed for it, and those it had in its own prefix cache. */
    computedTokens: count,
    cachedTokens: count,
    milliseconds: z.number().min(0),
  }),
  /** The decode node computes the prompt itself. */
  z.object({
    kind: z.literal('local'),
    why: z.enum(['cached', 'no_room', 'no_transport', 'stalled', 'refused', 'prefill_failed', 'closed']),
    transport: TransportName.optional(),
    message: text,
  }),
]);
export type TransferOutcome = z.infer<typeof TransferOutcome>;

/** First message on a bulk socket: which node this is, with the secret of its `welcome`. */
export const BulkHello = z.object({ type: z.literal('bulk'), node: z.string().max(128), token: text });
export type BulkHello = z.infer<typeof BulkHello>;

/** Headers of the frames of a channel between two nodes; a `blocks` header is followed by its payload. */
export const FrameHeader = z.discriminatedUnion('type', [
  /** Prefill -> decode. Checked whole before a byte is written; anything that differs ends the transfer. */
  z.object({
    type: z.literal('blocks'),
    transfer: TransferId,
    /** Counts from 0. */
    frame: count,
    fingerprint: text,
    kvCacheDtype: text,
    section: KvSection,
    /** Chained hash of each block of the section. */
    hashes: z.array(BlockHash).min(1).max(MAX_EVENT_BLOCKS),
    /** XXH3-64, seed 0, of the payload. */
    payloadHash: U64,
  }),
  /** Prefill -> decode: every wanted block was sent. */
  z.object({ type: z.literal('end'), transfer: TransferId, frames: count, computedTokens: count, cachedTokens: count }),
  /** Decode -> prefill: frames up to `frames` are written; so many more may be sent than were acknowledged. Renews the lease. */
  z.object({ type: z.literal('ack'), transfer: TransferId, frames: count, credit: count.max(MAX_CREDIT) }),
  /** Either way: nothing more comes, and nothing more is taken. */
  z.object({ type: z.literal('abort'), transfer: TransferId, message: text }),
]);
export type FrameHeader = z.infer<typeof FrameHeader>;
