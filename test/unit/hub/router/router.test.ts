import { describe, expect, it } from 'vitest';
import { KvIndex } from '../../../../src/hub/router/kv-index.ts';
import type { RouterModeName } from '../../../../src/hub/router/mode.ts';
import { Router } from '../../../../src/hub/router/router.ts';
import type { GenerateRequest } from '../../../../src/protocol/generate.ts';
import { createBlockHasher } from '../../../../src/protocol/hashes.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { PrefixCache } from '../../../support/prefix-cache.ts';
import { RoutingSimulation } from '../../../support/routing-simulation.ts';
import { DEFAULT_KNOBS } from '../../../support/test-hub.ts';
import { node, prompt, request } from './setup.ts';

const hasher = await createBlockHasher('xxh3');
const NEW = { overlapBlocks: 0, known: [] };
const ANY = { node: null, rank: null, knobs: {} };
const at = (id: string, rank = 0) => ({ id, rank });

function setUp(mode: RouterModeName, draws: number[] = []) {
  const clock = new FakeClock();
  const index = new KvIndex(hasher, 4);
  const random = () => draws.shift() ?? 0;
  const router = new Router({ config: { mode, knobs: DEFAULT_KNOBS }, index, clock, random });
  /** Where a request goes; it stays there. */
  const send = (
    nodes: ReturnType<typeof node>[],
    wanted: GenerateRequest = request(),
    wish: Parameters<Router['choose']>[2] = ANY,
  ) => {
    const route = router.choose(wanted, nodes, wish);
    if (route.kind !== 'chosen') return route.kind;
    router.added(route.candidate, wanted, route);
    return route.candidate.id;
  };
  /** Tells the index that a node has computed a prompt. */
  const cached = (id: string, tokens: number[]) => {
    const cache = new PrefixCache(hasher, 4);
    cache.compute(tokens);
    index.open(id, 0, node(id).card).append(cache.takeEvents());
  };
  return { clock, router, send, cached };
}

const nodes = ['a', 'b', 'c'].map((id) => node(id));

describe('every mode', () => {
  it.each<RouterModeName>(['kv', 'round-robin', 'random', 'least-loaded', 'direct'])('%s', (mode) => {
    const { send } = setUp(mode);
    expect(send([])).toBe('nobody');
    expect(send(nodes, request(), { node: 'b', rank: null, knobs: {} })).toBe('b');
    expect(send(nodes, request(), { node: 'z', rank: null, knobs: {} })).toBe('absent');
    const software = node('cpu', { software: true });
    expect(send([software, node('gpu')])).toBe(mode === 'direct' ? 'unnamed' : 'gpu');
    expect(send([software, node('gpu')], request(), { node: 'cpu', rank: null, knobs: {} })).toBe('cpu');
    if (mode !== 'direct') expect(send([software])).toBe('cpu');
  });
});

describe('kv', () => {
  it('goes where the prompt is cached, unless that node is busier than the cache is worth', () => {
    const { send, cached, router } = setUp('kv');
    cached('b', prompt(1, 10));
    // With k requests on b: (k + 1) to prefill, 10 shared + k + 1 to decode, so 12 + 2k against 11 + 11 elsewhere.
    const sent = Array.from({ length: 6 }, (_, i) => request([...prompt(1, 10), 20 + i]));
    expect(sent.map((each) => send(nodes, each))).toEqual(['b', 'b', 'b', 'b', 'b', 'a']);
    for (const each of sent.slice(0, 5)) router.freed(at('b'), each);
    expect(router.load(at('b'))).toMatchObject({ prefillBlocks: 0, decodeBlocks: 0 });
    expect(send(nodes, request([...prompt(1, 10), 7]))).toBe('b');
  });

  it('a burst of one prompt does not herd onto the node that has it', () => {
    const { send, cached } = setUp('kv');
    cached('b', prompt(1, 4));
    const chosen = Array.from({ length: 30 }, () => send(nodes, request([...prompt(1, 4), 5])));
    const count = (id: string) => chosen.filter((each) => each === id).length;
    // A request costs 2 blocks more on b, 6 on the others: b gets three times as many, not all.
    expect([count('a'), count('b'), count('c')]).toEqual([6, 18, 6]);
  });

  it('credit, scale and temperature of a request win over those of the hub', () => {
    const { send, cached, router } = setUp('kv', [0.9999]);
    cached('b', prompt(1, 4));
    router.added(at('b'), request(prompt(2, 3)), { overlapBlocks: 3, known: [] });
    const wanted = () => request([...prompt(1, 4), 5]);
    // b: (5 - 4) + (3 + 5) = 9 against 5 + 5 = 10.
    expect(send(nodes, wanted())).toBe('b');
    expect(send(nodes, wanted(), { node: null, rank: null, knobs: { overlapScoreCredit: 0 } })).toBe('a');
    expect(send(nodes, wanted(), { node: null, rank: null, knobs: { prefillLoadScale: 0 } })).toBe('c');
    // Very hot: each node a third of the chance, and the last third is c's.
    expect(send(nodes, wanted(), { node: null, rank: null, knobs: { temperature: 1000 } })).toBe('c');
  });

  it('a node that is twenty times slower costs the fast one nothing: 95 % of its throughput over ten minutes, the first tries of both included', () => {
    const tokensIn = (slow: boolean) => {
      const members = [{ id: 'fast', speed: 1, blocks: Infinity }];
      if (slow) members.push({ id: 'slow', speed: 0.05, blocks: Infinity });
      const cluster = new RoutingSimulation(members, { mode: 'kv', knobs: DEFAULT_KNOBS }, hasher);
      let sent = 0;
      const next = () => {
        sent += 1;
        cluster.send(
          Array.from({ length: 64 }, (_, i) => (sent * 31 + i) % 997),
          Array.from({ length: 50 }, () => 1),
          next,
        );
      };
      for (let client = 0; client < 8; client++) next();
      cluster.clock.advance(600_000);
      return cluster.tokens;
    };
    const alone = tokensIn(false).get('fast')!;
    const both = tokensIn(true);
    expect(both.get('fast')! + (both.get('slow') ?? 0)).toBeGreaterThan(0.95 * alone);
    // It was tried, and measured.
    expect(both.get('slow')).toBeGreaterThan(0);
  });
});

describe('the other modes', () => {
  it('round-robin takes each in turn, however long its requests run', () => {
    const { send, router } = setUp('round-robin');
    const done = request();
    expect(send(nodes, done)).toBe('a');
    router.freed(at('a'), done);
    expect(Array.from({ length: 5 }, () => send(nodes))).toEqual(['b', 'c', 'a', 'b', 'c']);
  });

  it('random takes what is drawn', () => {
    const { send } = setUp('random', [0, 0.34, 0.99, 0.5]);
    expect(Array.from({ length: 4 }, () => send(nodes))).toEqual(['a', 'b', 'c', 'b']);
  });

  it('least-loaded counts sequences by the size of the node, and gives them back', () => {
    const { send, router } = setUp('least-loaded');
    const [small, large] = [node('small', { maxNumSeqs: 4 }), node('large', { maxNumSeqs: 64 })];
    const four = request([1], 4);
    router.added(at('small'), four, NEW);
    router.added(at('large'), request([1], 8), NEW);
    expect(send([small, large])).toBe('large');
    router.freed(at('small'), four);
    expect(router.load(at('small')).sequences).toBe(0);
    expect(send([small, large])).toBe('small');
  });

  it('spreads a burst evenly, before any node has reported its load', () => {
    const { send } = setUp('least-loaded');
    expect(Array.from({ length: 6 }, () => send(nodes))).toEqual(['a', 'b', 'c', 'a', 'b', 'c']);
  });
});

describe('the count of loads', () => {
  it('a prefill counts until the first token, a request until it is freed, a node until it leaves', () => {
    const { router, clock } = setUp('kv');
    const long = request(prompt(1, 10), 2);
    router.added(at('a'), long, { overlapBlocks: 4, known: [] });
    expect(router.load(at('a'))).toMatchObject({ sequences: 2, prefillBlocks: 6, decodeBlocks: 10 });
    clock.advance(30);
    router.tokens(at('a'), { request: long.request, choice: 0, offset: 0, tokens: [1], cachedTokens: 16 });
    expect(router.load(at('a'))).toMatchObject({
      sequences: 2,
      prefillBlocks: 0,
      decodeBlocks: 10,
      prefillRate: 6 / 30,
    });
    clock.advance(100);
    router.tokens(at('a'), { request: long.request, choice: 1, offset: 0, tokens: [1, 2, 3, 4] });
    router.freed(at('a'), long);
    expect(router.load(at('a'))).toMatchObject({
      sequences: 0,
      prefillBlocks: 0,
      decodeBlocks: 0,
      decodeRate: 2 / 100,
    });
    clock.advance(300_001);
    expect(router.load(at('a'))).toMatchObject({ prefillRate: null, decodeRate: null });
    router.added(at('a'), long, NEW);
    router.forget('a');
    router.freed(at('a'), long);
    expect(router.load(at('a')).sequences).toBe(0);
  });
});
