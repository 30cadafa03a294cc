import { KvIndex } from '../../src/hub/router/kv-index.ts';
import type { KvRank } from '../../src/hub/router/kv-rank.ts';
import { Router, type RouterConfig } from '../../src/hub/router/router.ts';
import type { GenerateRequest } from '../../src/protocol/generate.ts';
import type { BlockHasher } from '../../src/protocol/hashes.ts';
import type { Card } from '../../src/protocol/messages.ts';
import { GREEDY } from '../../src/protocol/sampling.ts';
import { FakeClock } from './fake-clock.ts';
import { PrefixCache } from './prefix-cache.ts';

/** Of a node with speed 1. Prompts are computed one after the other; running sequences do not slow each other. */
const PREFILL_TOKENS_PER_MS = 1;
const DECODE_TOKENS_PER_MS = 0.05;
/** Tokens of one decode frame. */
const FRAME = 10;

export interface SimulatedNode {
  readonly id: string;
  readonly speed: number;
  /** Blocks of its prefix cache. */
  readonly blocks: number;
}

/** What became of one request; times in simulated milliseconds. */
export interface SimulatedAnswer {
  readonly node: string;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly firstTokenMs: number;
}

/** Numbers of a fixed sequence (Park and Miller's), so that every run is the same; uniform in (0, 1). */
export function drawer(): () => number {
  let state = 42;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

interface Member {
  readonly node: SimulatedNode;
  readonly card: Card;
  readonly cache: PrefixCache;
  readonly rank: KvRank;
  /** When its prefills so far will be done. */
  freeAt: number;
}

/** The hub's router over nodes that are a clock and a prefix cache, in simulated time: the same run gives the same figures anywhere. */
export class RoutingSimulation {
  readonly clock = new FakeClock();
  /** Generated so far, by node. */
  readonly tokens = new Map<string, number>();
  readonly answers: SimulatedAnswer[] = [];
  readonly #index: KvIndex;
  readonly #router: Router;
  readonly #members: Member[];
  #requests = 0;

  constructor(nodes: readonly SimulatedNode[], config: RouterConfig, hasher: BlockHasher, blockSize = 16) {
    this.#index = new KvIndex(hasher, blockSize);
    this.#router = new Router({ config, index: this.#index, clock: this.clock, random: drawer() });
    this.#members = nodes.map((node) => {
      const card = cardOf(node, blockSize);
      const rank = this.#index.open(node.id, 0, card);
      return { node, card, rank, cache: new PrefixCache(hasher, blockSize, node.blocks), freeAt: 0 };
    });
  }

  /** Sends a request now; `done` is called with its last token. */
  send(prompt: readonly number[], answer: readonly number[], done: () => void = () => {}): void {
    this.#requests += 1;
    const request: GenerateRequest = {
      request: `r${this.#requests}`,
      prompt: [...prompt],
      choices: [{ choice: 0, generated: [] }],
      sampling: GREEDY,
    };
    const candidates = this.#members.map((member) => ({ id: member.node.id, rank: 0, card: member.card, member }));
    const route = this.#router.choose(request, candidates, { node: null, rank: null, knobs: {} });
    if (route.kind !== 'chosen') throw new Error(`no route: ${route.kind}`);
    const { member } = route.candidate;
    this.#router.added(route.candidate, request, route);
    const sentAt = this.clock.now();
    this.clock.after(Math.max(0, member.freeAt - sentAt), () => this.#prefill(member, request, answer, sentAt, done));
    // Only an estimate of its own queue: `prefill` sets it straight as each prompt begins.
    member.freeAt = Math.max(member.freeAt, sentAt);
  }

  #prefill(member: Member, request: GenerateRequest, answer: readonly number[], sentAt: number, done: () => void) {
    const now = this.clock.now();
    if (member.freeAt > now) {
      this.clock.after(member.freeAt - now, () => this.#prefill(member, request, answer, sentAt, done));
      return;
    }
    const { node, cache, rank } = member;
    const cachedTokens = cache.compute(request.prompt);
    const ms = (request.prompt.length - cachedTokens) / (PREFILL_TOKENS_PER_MS * node.speed);
    member.freeAt = now + ms;
    this.clock.after(ms, () => {
      rank.append(cache.takeEvents());
      const firstTokenMs = this.clock.now() - sentAt;
      this.answers.push({ node: node.id, promptTokens: request.prompt.length, cachedTokens, firstTokenMs });
      this.#decode(member, request, answer, 0, 1, cachedTokens, done);
    });
  }

  #decode(
    member: Member,
    request: GenerateRequest,
    answer: readonly number[],
    offset: number,
    count: number,
    cachedTokens: number,
    done: () => void,
  ): void {
    const { id, speed } = member.node;
    const tokens = answer.slice(offset, offset + count);
    this.tokens.set(id, (this.tokens.get(id) ?? 0) + tokens.length);
    this.#router.tokens(
      { id, rank: 0 },
      { request: request.request, choice: 0, offset, tokens: [...tokens], cachedTokens },
    );
    const next = offset + tokens.length;
    if (next >= answer.length) {
      member.cache.compute([...request.prompt, ...answer]);
      member.rank.append(member.cache.takeEvents());
      this.#router.freed({ id, rank: 0 }, request);
      done();
      return;
    }
    const more = Math.min(FRAME, answer.length - next);
    this.clock.after(more / (DECODE_TOKENS_PER_MS * speed), () =>
      this.#decode(member, request, answer, next, more, cachedTokens, done),
    );
  }
}

/** The card of a simulated node. */
export function cardOf({ blocks }: SimulatedNode, blockSize: number): Card {
  return {
    model: 'simulated',
    fingerprint: 'f',
    numericsId: 'n',
    role: 'agg',
    dpRank: 0,
    dpSize: 1,
    transports: [],
    localScope: null,
    adapter: { vendor: '', architecture: '', device: '', description: '', software: false, features: [] },
    blockSize,
    totalBlocks: Number.isFinite(blocks) ? blocks + 4096 : 1 << 20,
    maxModelLen: 1 << 20,
    maxNumSeqs: 32,
    maxNumBatchedTokens: 256,
    kvCacheDtype: 'f32',
    hashAlgo: 'xxh3',
  };
}
