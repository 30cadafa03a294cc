import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import type { EventMessage } from '../../../src/dynamo/events/message.ts';
import { kvEvent, kvEventsPayload, loadPayload, messageFrames } from '../../../src/dynamo/events/message.ts';
import { KvFeed, LoadPublisher } from '../../../src/dynamo/events/publishers.ts';
import { createBlockHasher } from '../../../src/protocol/hashes.ts';
import type { KvChange } from '../../../src/protocol/kv-follower.ts';
import { PrefixCache } from '../../support/prefix-cache.ts';

const fixture = async (name: string): Promise<unknown> =>
  JSON.parse(await readFile(new URL(`../../fixtures/dynamo/${name}.json`, import.meta.url), 'utf8'));

/** Integers of 64 bits are `u64:<decimal>` in the captures. */
const U64 = z
  .union([z.number(), z.string().regex(/^u64:\d+$/)])
  .transform((n) => BigInt(typeof n === 'number' ? n : n.slice(4)));
const Envelope = z.object({
  publisher_id: z.number(),
  sequence: z.number(),
  published_at: z.number(),
  topic: z.string(),
});
const KvEvents = z.object({
  messages: z.array(
    z.object({
      frames_hex: z.array(z.string()),
      envelope: Envelope,
      batch: z.array(
        z.object({
          worker_id: U64,
          event: z.object({
            event_id: z.number(),
            dp_rank: z.number(),
            data: z.object({
              stored: z.object({
                parent_hash: U64.nullable(),
                blocks: z.array(z.object({ block_hash: U64, tokens_hash: U64 })),
              }),
            }),
          }),
        }),
      ),
    }),
  ),
});
const KvMetrics = z.object({
  messages: z.array(
    z.object({
      frames_hex: z.array(z.string()),
      envelope: Envelope,
      load: z.object({ worker_id: U64, dp_rank: z.number(), kv_used_blocks: z.number() }),
    }),
  ),
});

const hexOf = (frames: readonly Uint8Array[]) => frames.map((frame) => Buffer.from(frame).toString('hex'));

describe("messages of Dynamo's event plane", () => {
  it('of stored blocks are those of the mocker, byte for byte', async () => {
    const { messages } = KvEvents.parse(await fixture('kv-events-mocker'));
    expect(messages).toHaveLength(3);
    for (const { frames_hex, envelope, batch } of messages) {
      const events = batch.map(({ worker_id, event: { event_id, dp_rank, data } }) => {
        const blocks = data.stored.blocks.map(({ block_hash, tokens_hash }) => ({
          ...{ blockHash: block_hash, tokensHash: tokens_hash },
          tokens: [],
        }));
        const stored = { type: 'stored', parent: data.stored.parent_hash, blocks } as const;
        return kvEvent({ worker: worker_id, rank: dp_rank }, event_id, stored);
      });
      const { publisher_id: publisher, sequence, published_at: publishedAt, topic } = envelope;
      const payload = kvEventsPayload(events);
      expect(hexOf(messageFrames({ publisher, sequence, publishedAt, topic, payload }))).toEqual(frames_hex);
    }
  });

  it('of load too', async () => {
    const { messages } = KvMetrics.parse(await fixture('kv-metrics-mocker'));
    for (const { frames_hex, envelope, load } of messages) {
      const { publisher_id: publisher, sequence, published_at: publishedAt, topic } = envelope;
      const payload = loadPayload({ worker: load.worker_id, rank: load.dp_rank }, load.kv_used_blocks);
      expect(hexOf(messageFrames({ publisher, sequence, publishedAt, topic, payload }))).toEqual(frames_hex);
    }
  });
});

describe('publishers', () => {
  /** Decodes what the feed publishes as a router would apply it. */
  const Stored = z.object({
    parent_hash: z.bigint().nullable(),
    blocks: z.array(z.object({ block_hash: z.bigint(), tokens_hash: z.bigint() })),
  });
  const Event = z.object({
    worker_id: z.number(),
    event: z.object({
      event_id: z.number(),
      dp_rank: z.number(),
      data: z.union([
        z.literal('cleared'),
        z.object({ stored: Stored }),
        z.object({ removed: z.object({ block_hashes: z.array(z.bigint()) }) }),
      ]),
    }),
  });
  const Dump = z.object({ TreeDump: z.object({ events: z.array(Event), last_event_id: z.number() }) });

  it('number their messages and events from 0 and 1, each for itself', async () => {
    const sent: EventMessage[] = [];
    const feed = new KvFeed({ publish: (message) => sent.push(message) }, () => 1000);
    const one = feed.publish('a', { worker: 1, rank: 0 });
    const other = feed.publish('a', { worker: 1, rank: 1 });
    const cleared: KvChange[] = [{ type: 'cleared' }, { type: 'cleared' }];
    feed.changed('a', 0, 'f', cleared);
    feed.changed('a', 0, 'f', cleared);
    feed.changed('a', 1, 'f', cleared);
    feed.changed('nobody', 0, 'f', cleared);
    expect(sent.map(({ publisher, sequence }) => [publisher, sequence])).toEqual([
      [one.id, 0],
      [one.id, 1],
      [other.id, 0],
    ]);
    expect(Dump.parse(one.treeDump()).TreeDump.last_event_id).toBe(4);
    expect(Dump.parse(other.treeDump()).TreeDump.last_event_id).toBe(2);
  });

  it('tell a load when it changed, and not else', () => {
    const sent: EventMessage[] = [];
    const load = new LoadPublisher(1, { publish: (message) => sent.push(message) }, () => 0);
    for (const blocks of [3, 3, 4, 4, 0]) load.used(0, blocks);
    load.used(1, 0);
    expect(sent.map(({ sequence }) => sequence)).toEqual([0, 1, 2, 3]);
  });

  it('dump the whole cache, parents first, whatever was stored, removed and cleared, registered or not yet', async () => {
    const hasher = await createBlockHasher('xxh3');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('compute', 'evict', 'clear'), fc.nat({ max: 5 }), fc.nat({ max: 5 })), {
          maxLength: 40,
        }),
        fc.nat({ max: 40 }),
        (steps, registeredAt) => {
          const cache = new PrefixCache(hasher, 4, 12);
          const feed = new KvFeed({ publish() {} }, () => 0);
          let publisher = registeredAt === 0 ? feed.publish('n', { worker: 9, rank: 2 }) : null;
          for (const [i, [kind, a, b]] of steps.entries()) {
            if (kind === 'compute') cache.compute([...Array(16).keys()].map((at) => (at < 8 ? a : b * 100 + at)));
            else if (kind === 'evict') cache.evict();
            else cache.clear();
            feed.changed('n', 2, 'f', cache.takeEvents());
            if (i + 1 === registeredAt) publisher = feed.publish('n', { worker: 9, rank: 2 });
          }
          publisher ??= feed.publish('n', { worker: 9, rank: 2 });
          const { events } = Dump.parse(publisher.treeDump()).TreeDump;
          const seen = new Map<bigint, bigint>();
          for (const { worker_id, event } of events) {
            expect([worker_id, event.dp_rank]).toEqual([9, 2]);
            if (event.data === 'cleared' || !('stored' in event.data)) throw new Error('a dump stores');
            let parent = event.data.stored.parent_hash;
            for (const { block_hash, tokens_hash } of event.data.stored.blocks) {
              if (parent !== null) expect(seen.has(parent)).toBe(true);
              seen.set(block_hash, tokens_hash);
              parent = block_hash;
            }
          }
          const wanted = cache.snapshot().blocks.map(({ block }) => [block.blockHash, block.tokensHash] as const);
          expect(seen).toEqual(new Map(wanted));
        },
      ),
      { numRuns: 60 },
    );
  });
});
