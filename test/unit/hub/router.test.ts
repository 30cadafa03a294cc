import { describe, expect, it } from 'vitest';
import { LeastLoadedRouter } from '../../../src/hub/router.ts';
import type { GenerateRequest } from '../../../src/protocol/generate.ts';
import type { Card } from '../../../src/protocol/messages.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';

function node(id: string, { software = false, maxNumSeqs = 32 } = {}) {
  const adapter = { vendor: '', architecture: '', device: '', description: '', software, features: [] };
  const card: Card = {
    model: 'm',
    fingerprint: 'f',
    numericsId: 'n',
    role: 'agg',
    dpRank: 0,
    adapter,
    blockSize: 16,
    totalBlocks: 1,
    maxModelLen: 1,
    maxNumSeqs,
    maxNumBatchedTokens: 1,
    kvCacheDtype: 'f32',
    hashAlgo: 'xxh3',
  };
  return { id, card };
}

function request(choices = 1): GenerateRequest {
  const list = Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] }));
  return { request: 'r', prompt: [1], choices: list, sampling: GREEDY };
}

describe('LeastLoadedRouter', () => {
  it('has nobody to choose from nobody', () => {
    expect(new LeastLoadedRouter().choose(request(), [])).toBeNull();
  });

  it('spreads a burst evenly, before any node has reported its load', () => {
    const router = new LeastLoadedRouter();
    const nodes = ['a', 'b', 'c'].map((id) => node(id));
    const chosen = Array.from({ length: 9 }, () => {
      const { id } = router.choose(request(), nodes)!;
      router.added(id, request());
      return id;
    });
    expect(chosen).toEqual(['a', 'b', 'c', 'a', 'b', 'c', 'a', 'b', 'c']);
  });

  it('counts sequences, not requests, and gives them back', () => {
    const router = new LeastLoadedRouter();
    const nodes = [node('a'), node('b')];
    router.added('a', request(4));
    router.added('b', request(1));
    router.added('b', request(1));
    expect(router.choose(request(), nodes)?.id).toBe('b');
    router.freed('a', request(4));
    expect(router.sequences('a')).toBe(0);
    expect(router.choose(request(), nodes)?.id).toBe('a');
  });

  it('measures load by the size of the node', () => {
    const router = new LeastLoadedRouter();
    const nodes = [node('small', { maxNumSeqs: 4 }), node('large', { maxNumSeqs: 64 })];
    router.added('small', request(1));
    router.added('large', request(8));
    expect(router.choose(request(), nodes)?.id).toBe('large');
  });

  it('takes a software adapter only while there is no other, however busy the others are', () => {
    const router = new LeastLoadedRouter();
    const software = node('cpu', { software: true });
    expect(router.choose(request(), [software])?.id).toBe('cpu');
    for (let i = 0; i < 100; i++) router.added('gpu', request());
    expect(router.choose(request(), [software, node('gpu')])?.id).toBe('gpu');
  });

  it('forgets a node that left', () => {
    const router = new LeastLoadedRouter();
    router.added('a', request(3));
    router.forget('a');
    expect(router.sequences('a')).toBe(0);
  });
});
