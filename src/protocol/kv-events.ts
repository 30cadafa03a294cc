import * as z from 'zod';
import { LoraName } from './generate.ts';
import { TokenId } from './sampling.ts';

/** A whole number of so many bits: `bigint` in TypeScript, a decimal string in JSON. */
const unsigned = (bits: number, digits: number) =>
  z
    .string()
    .regex(new RegExp(`^\\d{1,${digits}}$`))
    .transform((s, ctx) => {
      const n = BigInt(s);
      if (n >> BigInt(bits) > 0n) {
        ctx.addIssue({ code: 'custom', message: `larger than ${bits} bits` });
        return z.NEVER;
      }
      return n;
    });

export const U64 = unsigned(64, 20);

/** Chained hash of a block: 64 bits with `xxh3`, 256 with `sha256`. */
export const BlockHash = unsigned(256, 78);

/** One full block: `blockHash` chains the blocks before it, `tokensHash` is of its own tokens alone (as Dynamo has it). */
export const StoredBlock = z.object({ blockHash: BlockHash, tokensHash: U64, tokens: z.array(TokenId).max(1024) });
export type StoredBlock = z.infer<typeof StoredBlock>;

/** Most blocks in one event. */
export const MAX_EVENT_BLOCKS = 4096;

/** Present where the hashes were made under a cache salt: whoever checks them needs it. */
const cacheSalt = z.string().max(256).optional();
/** The same of a LoRA adapter. */
const loraName = LoraName.optional();

/** What happened to a rank's prefix cache. Event ids start at 1 and grow by 1 per event of that rank. */
export const KvEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('stored'),
    eventId: z.number().int(),
    parent: BlockHash.nullable(),
    cacheSalt,
    loraName,
    blocks: z.array(StoredBlock).max(MAX_EVENT_BLOCKS),
  }),
  z.object({
    type: z.literal('removed'),
    eventId: z.number().int(),
    blockHashes: z.array(BlockHash).max(MAX_EVENT_BLOCKS),
  }),
  z.object({ type: z.literal('cleared'), eventId: z.number().int() }),
]);
export type KvEvent = z.infer<typeof KvEvent>;

const SnapshotBlock = z.object({ parent: BlockHash.nullable(), cacheSalt, loraName, block: StoredBlock });

/** The whole prefix cache of a rank, parents first, as of `lastEventId`. */
export interface KvSnapshot {
  readonly lastEventId: number;
  readonly blocks: z.infer<typeof SnapshotBlock>[];
}

/** Most parts of one snapshot; with full parts a million blocks and more. */
const MAX_SNAPSHOT_PARTS = 4096;
/** Tokens in one part, so that a part is a few MiB of JSON at most. */
const MAX_PART_TOKENS = 1 << 18;

/** One message's share of a snapshot. Parts count from 0 and follow each other. */
export const KvSnapshotPart = z.object({
  lastEventId: z.number().int().min(0),
  part: z.number().int().min(0).max(MAX_SNAPSHOT_PARTS),
  parts: z.number().int().min(1).max(MAX_SNAPSHOT_PARTS),
  blocks: z.array(SnapshotBlock).max(MAX_EVENT_BLOCKS),
});
export type KvSnapshotPart = z.infer<typeof KvSnapshotPart>;

/** Cuts a snapshot into parts; an empty one is one empty part. blockSize: tokens of a block. */
export function snapshotParts({ lastEventId, blocks }: KvSnapshot, blockSize: number): KvSnapshotPart[] {
  const size = Math.min(MAX_EVENT_BLOCKS, Math.max(1, Math.floor(MAX_PART_TOKENS / blockSize)));
  const parts = Math.max(1, Math.ceil(blocks.length / size));
  return Array.from({ length: parts }, (_, part) => ({
    lastEventId,
    part,
    parts,
    blocks: blocks.slice(part * size, (part + 1) * size),
  }));
}
