import * as z from 'zod';
import { TokenId } from './sampling.ts';

/** u64 are `bigint` in TypeScript and decimal strings in JSON. */
export const U64 = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform((s, ctx) => {
    const n = BigInt(s);
    if (n > 0xffff_ffff_ffff_ffffn) {
      ctx.addIssue({ code: 'custom', message: 'larger than 64 bits' });
      return z.NEVER;
    }
    return n;
  });

/** One full block: `blockHash` chains the blocks before it, `tokensHash` is of its own tokens alone (Dynamo's two hashes). */
export const StoredBlock = z.object({ blockHash: U64, tokensHash: U64, tokens: z.array(TokenId).max(1024) });
export type StoredBlock = z.infer<typeof StoredBlock>;

/** Most blocks in one event. */
export const MAX_EVENT_BLOCKS = 4096;

/** Present where the hashes were made under a cache salt: whoever checks them needs it. */
const cacheSalt = z.string().max(256).optional();

/** What happened to a rank's prefix cache. Event ids start at 1 and grow by 1 per event of that rank. */
export const KvEvent = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('stored'),
    eventId: z.number().int(),
    parent: U64.nullable(),
    cacheSalt,
    blocks: z.array(StoredBlock).max(MAX_EVENT_BLOCKS),
  }),
  z.object({ type: z.literal('removed'), eventId: z.number().int(), blockHashes: z.array(U64).max(MAX_EVENT_BLOCKS) }),
  z.object({ type: z.literal('cleared'), eventId: z.number().int() }),
]);
export type KvEvent = z.infer<typeof KvEvent>;

/** The whole prefix cache of a rank, parents first, as of `lastEventId`. */
export const KvSnapshot = z.object({
  lastEventId: z.number().int(),
  blocks: z.array(z.object({ parent: U64.nullable(), cacheSalt, block: StoredBlock })).max(1 << 20),
});
export type KvSnapshot = z.infer<typeof KvSnapshot>;
