import { describe, expect, test } from 'vitest';
import type { ActiveTransfer, Happening } from '../../../src/protocol/cluster-state.ts';
import { storiesOf } from '../../../src/ui/stories.ts';

type New<T> = T extends unknown ? Omit<T, 'number' | 'at' | 'model'> : never;

/** Happenings, one a millisecond. */
const log = (...told: New<Happening>[]): Happening[] =>
  told.map((each, i) => ({ ...each, number: i + 1, at: 1000 + i, model: 'm' }));

const routed = (request: number, node: string, prefillNode: string | null = null, overlapBlocks = 0, attempt = 0) => ({
  ...{ kind: 'routed' as const, request, node, rank: 0, prefillNode, attempt, overlapBlocks, promptBlocks: 12 },
});
const prefilled = (request: number, node: string, decodeNode: string) => ({
  ...{ kind: 'prefilled' as const, request, node, decodeNode, computedTokens: 97, blocks: 6, bytes: 6144 },
});
const transferred = (request: number, from: string, to: string) => ({
  ...{ kind: 'transferred' as const, request, from, to, transport: 'relay' as const },
  ...{ blocks: 6, bytes: 6144, milliseconds: 84 },
});
const fellBack = (request: number, node: string, prefillNode: string) => ({
  ...{ kind: 'fell_back' as const, request, node, prefillNode, transport: null, why: 'stalled', message: 'Too slow.' },
});
const migrated = (request: number, from: string, to: string) => ({
  ...{ kind: 'migrated' as const, request, from, to, attempt: 1, completionTokens: 41, numericsChanged: false },
});
const MOVED = { transport: 'relay', blocks: 6, bytes: 6144, milliseconds: 84, computedTokens: 97 };

describe('what happened, request by request', () => {
  test('a request that one node computes has one step', () => {
    expect(storiesOf(log(routed(1, 'a', null, 3)), [])).toEqual([
      {
        request: 1,
        model: 'm',
        at: 1000,
        steps: [{ kind: 'routed', node: 'a', rank: 0, overlapBlocks: 3, promptBlocks: 12 }],
      },
    ]);
  });

  test.each([
    ['prefilled, then transferred', log(routed(1, 'd', 'p'), prefilled(1, 'p', 'd'), transferred(1, 'p', 'd'))],
    ['transferred, then prefilled', log(routed(1, 'd', 'p'), transferred(1, 'p', 'd'), prefilled(1, 'p', 'd'))],
    ['where the routing is forgotten', log(transferred(1, 'p', 'd'), prefilled(1, 'p', 'd'))],
  ])('a prompt that another node computes is one step: %s', (_, happenings) => {
    const [story] = storiesOf(happenings, []);
    expect(story?.steps).toEqual([{ kind: 'moved', from: 'p', to: 'd', ...MOVED }]);
  });

  test('a transfer moves as long as the hub says so', () => {
    const transfer: ActiveTransfer = {
      ...{ request: 1, prefillNode: 'p', decodeNode: 'd', transport: 'webrtc', blocks: 6, startedAt: 0 },
    };
    const going = log(routed(1, 'd', 'p'));
    expect(storiesOf(going, [transfer])[0]?.steps).toMatchObject([{ kind: 'moving', transport: 'webrtc', blocks: 6 }]);
    expect(storiesOf(going, [])[0]?.steps).toMatchObject([{ kind: 'planned', transport: null, blocks: null }]);
    const elsewhere = { ...transfer, decodeNode: 'other' };
    expect(storiesOf(going, [elsewhere])[0]?.steps).toMatchObject([{ kind: 'planned' }]);
  });

  test('a transfer that failed is its reason, whatever the prefill node says after it', () => {
    const [story] = storiesOf(log(routed(1, 'd', 'p'), fellBack(1, 'd', 'p'), prefilled(1, 'p', 'd')), []);
    expect(story?.steps).toMatchObject([{ kind: 'fell_back', node: 'd', prefillNode: 'p', message: 'Too slow.' }]);
  });

  test('a migration says from where, to where and when, and what was cached there', () => {
    const way = log(routed(1, 'd', 'p'), transferred(1, 'p', 'd'), migrated(1, 'd', 'e'), routed(1, 'e', null, 4, 1));
    const [story] = storiesOf(way, []);
    expect(story?.steps).toMatchObject([
      { kind: 'moved', from: 'p', to: 'd' },
      { kind: 'migrated', from: 'd', to: 'e', completionTokens: 41, overlapBlocks: 4 },
    ]);
  });

  test('the newest comes first: the one to which something happened last', () => {
    const all = log(routed(1, 'a'), routed(2, 'a'), routed(3, 'a'), migrated(1, 'a', 'b'));
    expect(storiesOf(all, []).map(({ request }) => request)).toEqual([1, 3, 2]);
  });

  test('many plain requests hide no other, and the list stays short', () => {
    const requests = Array.from({ length: 100 }, (_, i) => i + 1);
    const all = log(
      ...requests.map((request) => migrated(request, 'a', 'b')),
      ...requests.map((n) => routed(1000 + n, 'a')),
    );
    const stories = storiesOf(all, []);
    expect(stories.filter(({ steps }) => steps[0]?.kind === 'routed').map(({ request }) => request)).toEqual([
      1100, 1099, 1098, 1097, 1096, 1095,
    ]);
    expect(stories.filter(({ steps }) => steps[0]?.kind === 'migrated').map(({ request }) => request)).toEqual(
      requests.slice(-20).reverse(),
    );
  });
});
