import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Migration } from '../../../src/frontend/routing.ts';
import type { GenerateRequest, TokensFrame } from '../../../src/protocol/generate.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { scriptedToken } from '../../support/scripted-engine.ts';
import { SimulatedCluster, type SimulatedNode } from '../../support/simulated-cluster.ts';

/** What may happen between two tokens. `node` and `at` are taken modulo what is there. */
interface Event {
  readonly kind: (typeof KINDS)[number];
  readonly node: number;
  readonly at: number;
}
const KINDS = ['step', 'deliver', 'kill', 'reload', 'join', 'again', 'reorder', 'late', 'split', 'hang'] as const;
/** Most schedules should come far before something breaks. */
const WEIGHTS: readonly { weight: number; arbitrary: fc.Arbitrary<Event['kind']> }[] = KINDS.map((kind) => ({
  weight: kind === 'step' || kind === 'deliver' ? 8 : 1,
  arbitrary: fc.constant(kind),
}));
const event: fc.Arbitrary<Event> = fc.record({
  kind: fc.oneof(...WEIGHTS),
  node: fc.nat(7),
  at: fc.nat(7),
});

const request = fc
  .record({
    prompt: fc.array(fc.nat(999), { minLength: 1, maxLength: 5 }),
    choices: fc.integer({ min: 1, max: 3 }),
    maxTokens: fc.integer({ min: 1, max: 24 }),
    minTokens: fc.nat(6),
    /** Offset of choice 0 whose token ends a choice. */
    stopAt: fc.nat(30),
    logprobs: fc.boolean(),
  })
  .map(
    ({ prompt, choices, maxTokens, minTokens, stopAt, logprobs }): Omit<GenerateRequest, 'request'> => ({
      prompt,
      choices: Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] })),
      sampling: {
        ...GREEDY,
        maxTokens,
        minTokens,
        stopIds: [scriptedToken(prompt, 0, stopAt)],
        logprobs: logprobs ? 0 : null,
      },
    }),
  );

/** A choice in one unbroken run, and how it ends. */
function singleRun({ prompt, sampling }: Omit<GenerateRequest, 'request'>, choice: number) {
  const { maxTokens, minTokens, stopIds } = sampling;
  const tokens: number[] = [];
  for (let offset = 0; offset < maxTokens; offset++) {
    const token = scriptedToken(prompt, choice, offset);
    tokens.push(token);
    if (tokens.length >= minTokens && stopIds.includes(token)) return { tokens, finish: 'stop', stopId: token };
  }
  return { tokens, finish: 'length', stopId: undefined };
}

const happened = new Map<string, number>();
const count = (what: string) => happened.set(what, (happened.get(what) ?? 0) + 1);

function apply(cluster: SimulatedCluster, { kind, node, at }: Event): void {
  const alive = cluster.nodes.filter((each) => each.alive);
  // Most events should meet a node that has something to do.
  const busy = alive.filter(({ socket }) => cluster.dispatcher.perNode().has(socket));
  const among = busy.length > 0 && node > 1 ? busy : alive;
  const one: SimulatedNode | undefined = among[node % Math.max(1, among.length)];
  if (kind === 'join') cluster.join();
  if (one === undefined) return;
  switch (kind) {
    case 'step':
      one.engine.step();
      break;
    case 'deliver':
      for (let i = 0; i <= at; i++) one.deliver();
      break;
    case 'kill':
      one.socket.closed('killed');
      break;
    case 'reload':
      // Its device is lost and comes back: the socket stays, what it computed is gone (J10).
      one.send({ type: 'stage', stage: 'warming', detail: 'device lost', loadedBytes: 0, totalBytes: 0 });
      one.register();
      break;
    case 'again': {
      const known = one.delivered[at % Math.max(1, one.delivered.length)];
      if (known !== undefined) one.send(known);
      break;
    }
    case 'reorder':
      one.deliver(one.outbox.length > 0 ? at % one.outbox.length : 0);
      break;
    case 'late': {
      // Frames of an attempt that is over say something else than the log: taken, they would show.
      const gone = cluster.nodes.find((each) => !each.alive && each.delivered.length > 0);
      const old = gone?.delivered.at(-1);
      if (old === undefined) break;
      const frames = old.frames.map((frame) => ({ ...frame, tokens: frame.tokens.map((token) => (token + 1) % 1000) }));
      one.send({ ...old, frames });
      break;
    }
    case 'split': {
      // The tokens come, and the word that they are the last ones later.
      const next = one.outbox.shift();
      if (next === undefined) break;
      const ends = next.frames.filter(({ finish }) => finish !== undefined);
      one.outbox.unshift(
        { ...next, frames: next.frames.map(({ finish: _f, stopId: _s, ...frame }) => frame) },
        {
          ...next,
          frames: ends.map(({ tokens, offset, logprobs, ...end }) => ({
            ...end,
            offset: offset + tokens.length,
            tokens: [],
            ...(logprobs === undefined ? {} : { logprobs: [] }),
          })),
        },
      );
      one.deliver();
      break;
    }
    case 'hang':
      cluster.clock.advance(31_000);
      break;
    case 'join':
      break;
  }
}

describe('G7: migration', () => {
  it('however nodes die, hang, repeat, delay and reorder, a client gets the tokens of a single run', async () => {
    const schedules = fc.asyncProperty(
      fc.array(request, { minLength: 1, maxLength: 2 }),
      fc.array(event, { maxLength: 60, size: 'max' }),
      async (requests, events) => {
        const cluster = new SimulatedCluster();
        for (let i = 0; i < 3; i++) cluster.join();
        const backend = cluster.dispatcher.backend('', 1000);
        const migrations: Migration[] = [];
        const answers = requests.map((each, i) => {
          const frames: TokensFrame[] = [];
          const whole = { ...each, request: `r${i}` };
          const done = (async () => {
            const migrated = (migration: Migration) => migrations.push(migration);
            for await (const frame of backend.generate(whole, new AbortController().signal, {
              node: null,
              rank: null,
              knobs: {},
              routed() {},
              transferred() {},
              migrated,
            }))
              frames.push(frame);
          })();
          return { each, frames, done };
        });
        for (const each of events) {
          apply(cluster, each);
          if (each.kind !== 'step' && each.kind !== 'deliver') count(each.kind);
          // A client that waits longer than the hub is another test.
          if (!cluster.nodes.some((node) => node.alive)) cluster.join();
        }
        for (let i = 0; i < 100 && cluster.dispatcher.inflight > 0; i++) {
          if (!cluster.nodes.some((node) => node.alive)) cluster.join();
          for (const node of cluster.nodes.filter(({ alive }) => alive)) {
            node.engine.step();
            while (node.outbox.length > 0 && node.alive) node.deliver();
          }
        }
        expect(cluster.dispatcher.inflight).toBe(0);
        for (const { each, frames, done } of answers) {
          await done;
          for (const { choice } of each.choices) {
            const own = frames.filter((frame) => frame.choice === choice);
            const expected = singleRun(each, choice);
            expect(own.flatMap(({ tokens }) => tokens)).toEqual(expected.tokens);
            expect(own.flatMap(({ finish }) => finish ?? [])).toEqual([expected.finish]);
            expect(own.at(-1)?.stopId).toBe(expected.stopId);
            expect(own.filter(({ cachedTokens }) => cachedTokens !== undefined)).toHaveLength(1);
            const scored = own.flatMap(({ logprobs }) => logprobs?.map(({ token }) => token) ?? []);
            expect(scored).toEqual(each.sampling.logprobs === null ? [] : expected.tokens);
            let next = 0;
            for (const { offset, tokens } of own) {
              expect(offset).toBe(next);
              next += tokens.length;
            }
          }
        }
        expect(migrations).toHaveLength(cluster.migrations.length);
        for (const { type } of cluster.migrations) count(type);
        for (const { id } of cluster.nodes) expect(cluster.router.sequences(id)).toBe(0);
      },
    );
    await fc.assert(schedules, { numRuns: 3000 });
    // The schedules did what they are for.
    expect(happened.get('ongoing_request')).toBeGreaterThan(1000);
    expect(happened.get('new_request')).toBeGreaterThan(1000);
    for (const kind of KINDS.slice(2)) expect(happened.get(kind), kind).toBeGreaterThan(1000);
  });
});
