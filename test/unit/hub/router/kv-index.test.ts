import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KvIndex } from '../../../../src/hub/router/kv-index.ts';
import { KvTree } from '../../../../src/hub/router/kv-tree.ts';
import { createBlockHasher } from '../../../../src/protocol/hashes.ts';
import { type KvEvent, snapshotParts } from '../../../../src/protocol/kv-events.ts';
import { NO_ID } from '../../../../src/protocol/prompt-embeds.ts';
import { PrefixCache } from '../../../support/prefix-cache.ts';
import { node, overlapOf, prompt, request } from './setup.ts';

const hasher = await createBlockHasher('xxh3');
const SALTS = [undefined, 'tenant-a'] as const;

/** Prompts over two ids, so that they share beginnings of many lengths. */
const Prompt = fc
  .array(fc.constantFrom(1, 2), { minLength: 1, maxLength: 6 })
  .map((ids) => [...ids.flatMap((id) => prompt(id, 1)), 9]);
const Step = fc.record({
  node: fc.constantFrom('a', 'b', 'c'),
  what: fc.constantFrom('compute', 'compute', 'compute', 'evict', 'clear', 'lose', 'repeat', 'rejoin', 'leave'),
  prompt: Prompt,
  salt: fc.constantFrom(...SALTS),
});

/** Nodes with caches, wired to an index; a step may lose its events on the way. */
function cluster() {
  const index = new KvIndex(hasher, 4);
  const caches = new Map<string, PrefixCache>();
  const ranks = new Map<string, ReturnType<KvIndex['open']>>();
  const asked: string[] = [];
  const sendSnapshot = (id: string) => {
    for (const part of snapshotParts(caches.get(id)!.snapshot(), 4))
      expect(ranks.get(id)!.part(part)).toEqual({ kind: 'taken' });
  };
  const send = (id: string, events: readonly KvEvent[]) => {
    const verdict = ranks.get(id)!.append(events);
    expect(verdict.kind).not.toBe('broken');
    if (verdict.kind !== 'snapshot needed') return;
    asked.push(id);
    sendSnapshot(id);
  };
  const join = (id: string, cache = new PrefixCache(hasher, 4)) => {
    caches.set(id, cache);
    ranks.set(id, index.open(id, 0, node(id).card));
    sendSnapshot(id);
  };
  return { index, caches, ranks, asked, send, join };
}

describe('the index of prefix caches', () => {
  it('K3 to K8: knows what a naive look into every cache knows, whatever is stored, removed, cleared, lost, repeated; whoever comes and goes', () => {
    fc.assert(
      fc.property(
        fc.array(Step, { maxLength: 40 }),
        fc.array(Prompt, { minLength: 3, maxLength: 3 }),
        (steps, probes) => {
          const { index, caches, send, join } = cluster();
          const gone = new Set<string>();
          for (const id of ['a', 'b', 'c']) join(id);
          for (const step of steps) {
            const cache = caches.get(step.node)!;
            if (gone.has(step.node) || step.what === 'rejoin') {
              gone.delete(step.node);
              index.close(step.node);
              join(step.node, cache);
            }
            if (step.what === 'evict') cache.evict();
            else if (step.what === 'clear') cache.clear();
            else cache.compute(step.prompt, step.salt);
            const events = cache.takeEvents();
            if (step.what === 'lose') continue;
            send(step.node, events);
            if (step.what === 'repeat') send(step.node, events);
            if (step.what === 'leave') {
              index.close(step.node);
              gone.add(step.node);
            }
          }
          // The next event of each shows what was lost before it.
          for (const [id, cache] of caches) {
            cache.compute(prompt(7, 1));
            cache.compute(prompt(8, 1));
            if (!gone.has(id)) send(id, cache.takeEvents());
          }
          for (const probe of probes) {
            for (const salt of SALTS) {
              const match = index.match('f', request(probe, 1, salt));
              for (const [id, cache] of caches)
                expect(overlapOf(match, id)).toBe(gone.has(id) ? 0 : cache.leading(probe, salt));
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('K8: at a gap the blocks are forgotten at once, the snapshot is asked for once, and its last part brings them back', () => {
    const { index, caches, ranks, join } = cluster();
    join('a');
    const [cache, rank] = [caches.get('a')!, ranks.get('a')!];
    const long = Array.from({ length: 40 }, (_, i) => i);
    cache.compute(long);
    rank.append(cache.takeEvents());
    const blocks = () => overlapOf(index.match('f', request(long)), 'a');
    expect(blocks()).toBe(9);
    cache.clear();
    cache.takeEvents();
    cache.compute(long);
    const events = cache.takeEvents();
    expect(rank.append(events)).toEqual({ kind: 'snapshot needed' });
    expect(rank.append(events)).toEqual({ kind: 'taken' });
    expect(blocks()).toBe(0);
    const { lastEventId, blocks: all } = cache.snapshot();
    rank.part({ lastEventId, part: 0, parts: 2, blocks: all.slice(0, 5) });
    expect(blocks()).toBe(0);
    rank.part({ lastEventId, part: 1, parts: 2, blocks: all.slice(5) });
    expect(blocks()).toBe(9);
  });

  it('K8: a snapshot of which a part is missing changes nothing, and is asked for again once', () => {
    const { caches, ranks, join } = cluster();
    join('a');
    caches.get('a')!.compute(prompt(1, 3));
    const { lastEventId, blocks } = caches.get('a')!.snapshot();
    const part = (at: number) => ({ lastEventId, part: at, parts: 4, blocks: at === 0 ? blocks : [] });
    const said = [0, 2, 3].map((at) => ranks.get('a')!.part(part(at)).kind);
    expect(said).toEqual(['taken', 'taken', 'snapshot needed']);
  });

  it.each<[string, (event: Extract<KvEvent, { type: 'stored' }>) => KvEvent]>([
    ['tokens', (event) => ({ ...event, blocks: event.blocks.map((b) => ({ ...b, tokens: [9, 9, 9, 9] })) })],
    [
      'tokensHash',
      (event) => ({ ...event, blocks: event.blocks.map((b) => ({ ...b, tokensHash: b.tokensHash ^ 1n })) }),
    ],
    ['blockHash', (event) => ({ ...event, blocks: event.blocks.map((b) => ({ ...b, blockHash: b.blockHash ^ 1n })) })],
    ['salt', (event) => ({ ...event, cacheSalt: 'another' })],
    ['parent', (event) => ({ ...event, parent: 12n })],
    ['length', (event) => ({ ...event, blocks: event.blocks.map((b) => ({ ...b, tokens: b.tokens.slice(1) })) })],
    ['order', (event) => ({ ...event, blocks: [...event.blocks].reverse() })],
  ])('K7: a stored event with wrong %s breaks the protocol', (_, change) => {
    const { caches, ranks, join } = cluster();
    join('a');
    caches.get('a')!.compute([...prompt(1, 1), ...prompt(2, 1)]);
    const [event] = caches.get('a')!.takeEvents();
    if (event?.type !== 'stored') throw new Error('no stored event');
    expect(ranks.get('a')!.append([change(event)]).kind).toBe('broken');
  });

  it('K3, K4: storing twice and removing what is not stored break the protocol, and so does more than the pool holds', () => {
    const { index, caches, ranks, join } = cluster();
    join('a');
    caches.get('a')!.compute(prompt(1, 2));
    const events = caches.get('a')!.takeEvents();
    expect(ranks.get('a')!.append(events).kind).toBe('taken');
    const again = events.map((event) => ({ ...event, eventId: 2 }));
    expect(ranks.get('a')!.append(again)).toMatchObject({ reason: expect.stringContaining('stored twice') });
    const other = index.open('b', 0, node('b', { totalBlocks: 1 }).card);
    expect(other.append([{ type: 'removed', eventId: 1, blockHashes: [5n] }]).kind).toBe('broken');
    const small = index.open('c', 0, node('c', { totalBlocks: 1 }).card);
    expect(small.append(events)).toMatchObject({ reason: expect.stringContaining('more blocks than the 1') });
  });

  it('G5: a prompt whose logprobs are asked for reads no prefix cache', () => {
    const { index, caches, send, join } = cluster();
    join('a');
    caches.get('a')!.compute(prompt(1, 4));
    send('a', caches.get('a')!.takeEvents());
    const asked = request(prompt(1, 4));
    expect(overlapOf(index.match('f', asked), 'a')).toBe(3);
    const scored = { ...asked, sampling: { ...asked.sampling, promptLogprobs: 0 } };
    expect(overlapOf(index.match('f', scored), 'a')).toBe(0);
  });

  it('G13: prompts of embeddings have the same ids, all of them, and share nothing by these', () => {
    const { index, caches, send, join } = cluster();
    join('a');
    const ids = new Array<number>(16).fill(NO_ID);
    // Even of a node that tells of blocks of such ids.
    caches.get('a')!.compute(ids);
    send('a', caches.get('a')!.takeEvents());
    const embeds = { dtype: 'f32', data: 'AAAA' } as const;
    expect(index.match('f', { ...request(ids), embeds })).toEqual({ known: [], holders: [] });
    expect(overlapOf(index.match('f', request(ids)), 'a')).toBe(3);
  });

  it('another model has another tree', () => {
    const { index, caches, send, join } = cluster();
    join('a');
    caches.get('a')!.compute(prompt(1, 4));
    send('a', caches.get('a')!.takeEvents());
    expect(overlapOf(index.match('other', request(prompt(1, 4))), 'a')).toBe(0);
  });
});

it('the tree asks for no hash behind the first unknown one, and keeps nothing of holders that left', () => {
  const tree = new KvTree();
  for (const hash of [1n, 2n, 3n]) tree.add(1, hash);
  for (const hash of [1n, 2n]) tree.add(2, hash);
  let asked = 0;
  function* hashes() {
    for (let hash = 1n; hash < 100n; hash++) {
      asked += 1;
      yield hash;
    }
  }
  expect(tree.match(hashes())).toEqual(
    new Map([
      [1, 3],
      [2, 2],
    ]),
  );
  expect(asked).toBe(4);
  tree.drop(1);
  expect(tree.size).toBe(2);
  tree.drop(2);
  expect(tree.size).toBe(0);
});
