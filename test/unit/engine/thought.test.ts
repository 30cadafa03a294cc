import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Thought } from '../../../src/protocol/generate.ts';
import { GREEDY, type SamplingParams } from '../../../src/protocol/sampling.ts';
import type { SimulatedEngineOptions } from './simulated-engine.ts';
import { reference } from './simulated-gpu.ts';
import { engineOf, follows, PROMPT, requestOf, until } from './toy-grammar.ts';

/** What the prompt's answer is without a grammar. The token that comes for the first time last ends its reasoning. */
const freely = (sampling: Partial<SamplingParams> = {}) =>
  reference(PROMPT, { ...GREEDY, maxTokens: 40, ...sampling }, 64).tokens;
const MARK = freely({ maxTokens: 16 }).findLast((token, at, all) => all.indexOf(token) === at)!;
const THOUGHT = freely().slice(0, freely().indexOf(MARK) + 1);
const begun: Thought = { begun: true, starts: [], ends: [MARK] };

async function answer(
  rest: Parameters<typeof requestOf>[2],
  options: Partial<SimulatedEngineOptions> = {},
  sampling: Partial<SamplingParams> = {},
) {
  const { engine, matcher } = engineOf(options);
  engine.loop.add(requestOf('r', { maxTokens: 30, ...sampling }, { grammar: 'toy', ...rest }));
  await until(() => engine.finished.has('r') || engine.failed.has('r'));
  expect(engine.lost).toEqual([]);
  return { engine, matcher, tokens: engine.tokens.get('r') ?? [] };
}

/** That 25 tokens are those of the prompt alone up to the mark, then those of the grammar. Returns how many of the former there are. */
function checked(tokens: readonly number[], prompt: readonly number[]): number {
  const alone = reference(prompt, { ...GREEDY, maxTokens: 25 }, 64).tokens;
  const end = alone.indexOf(MARK) + 1 || 25;
  expect(tokens).toHaveLength(25);
  expect(tokens.slice(0, end)).toEqual(alone.slice(0, end));
  expect(follows(tokens.slice(end))).toBe(true);
  return end;
}

/** Results take a turn, as a GPU's do. */
const pause = () => new Promise<void>((resolve) => setImmediate(resolve));

const held = (engine: Awaited<ReturnType<typeof answer>>['engine']) =>
  engine.loop.steps().reduce((sum, { constrainedRows }) => sum + constrainedRows, 0);

describe('reasoning before a grammar', () => {
  it('is worth the name here', () => {
    expect(THOUGHT.length).toBeGreaterThan(5);
    expect(follows(THOUGHT)).toBe(false);
  });

  it.each([{ prefixCaching: true }, { prefixCaching: false }])(
    'is what it would be without one, in steps that overlap; then the grammar begins: %j',
    async (options) => {
      const { engine, matcher, tokens } = await answer({ thought: begun }, { ...options, pause });
      expect(tokens).toHaveLength(30);
      expect(tokens.slice(0, THOUGHT.length)).toEqual(THOUGHT);
      const rest = tokens.slice(THOUGHT.length);
      expect(follows(rest)).toBe(true);
      // Of the grammar's tokens the last one needs no mask after it; none was told of the reasoning.
      expect(matcher.matches.map(({ accepted }) => accepted)).toEqual([rest.slice(0, -1)]);
      expect(held(engine)).toBe(rest.length);
      const thinking = engine.loop.steps().filter(({ constrainedRows }) => constrainedRows === 0);
      expect(thinking.some(({ inFlight }) => inFlight > 0)).toBe(true);
      expect(engine.preemptions).toBe(0);
      // What was computed comes from the cache where there is one.
      const again = engine.loop
        .steps()
        .filter(({ prefillRows }) => prefillRows > 0)
        .at(-1)!;
      if (options.prefixCaching) expect(again.prefillRows).toBeLessThanOrEqual(4);
    },
  );

  it('has drafts; what follows has none', async () => {
    const { engine, tokens } = await answer({ thought: begun }, { maxDrafts: 3, maxNumBatchedTokens: 40 });
    expect(tokens.slice(0, THOUGHT.length)).toEqual(THOUGHT);
    expect(follows(tokens.slice(THOUGHT.length))).toBe(true);
    expect(engine.loop.load().counters.acceptedTokens).toBeGreaterThan(0);
    expect(held(engine)).toBe(30 - THOUGHT.length);
  });

  it('goes on wherever an earlier attempt was', async () => {
    const whole = (await answer({ thought: begun })).tokens;
    for (let cut = 1; cut < whole.length; cut++) {
      const { tokens, matcher } = await answer({
        thought: begun,
        choices: [{ choice: 0, generated: whole.slice(0, cut) }],
      });
      expect(tokens).toEqual(whole.slice(cut));
      expect(matcher.matches[0]!.wish.generated).toEqual(whole.slice(THOUGHT.length, Math.max(cut, THOUGHT.length)));
    }
  });

  it('of several choices ends for each by itself, beside a free sequence', async () => {
    const { engine } = engineOf({ totalBlocks: 40 });
    const all = [0, 1, 2].map((k) => requestOf(`r${k}`, { maxTokens: 25 }, { prompt: [k + 1, 5, 4, 3, 2, k] }));
    for (const request of all) engine.loop.add({ ...request, grammar: 'toy', thought: begun });
    engine.loop.add(requestOf('free', { maxTokens: 40 }));
    await until(() => engine.finished.size === 4);
    expect(engine.tokens.get('free')).toEqual(freely());
    const ends = all.map(({ request, prompt }) => checked(engine.tokens.get(request)!, prompt));
    expect(new Set(ends).size).toBeGreaterThan(1);
  });

  it('is preempted and goes on', async () => {
    const { engine } = engineOf({ totalBlocks: 9, maxNumBatchedTokens: 24 });
    const prompts = [PROMPT, [6, 5, 4, 3]];
    for (const [i, prompt] of prompts.entries())
      engine.loop.add(requestOf(`r${i}`, { maxTokens: 25 }, { prompt, grammar: 'toy', thought: begun }));
    await until(() => engine.finished.size === 2);
    expect(engine.preemptions).toBeGreaterThan(0);
    const ends = prompts.map((prompt, i) => checked(engine.tokens.get(`r${i}`)!, prompt));
    expect(ends[0]).toBe(THOUGHT.length);
  });

  it('that never ends is cut by its length; no stop id ends it before', async () => {
    const stop = THOUGHT[2]!;
    expect(stop).not.toBe(MARK);
    const rest = { thought: { ...begun, ends: [63] } };
    const { engine, tokens } = await answer(rest, {}, { stopIds: [stop] });
    expect(tokens).toEqual(freely({ stopIds: [stop], minTokens: 99, maxTokens: 30 }));
    expect(held(engine)).toBe(0);
  });

  it('waits for its grammar: one that nobody can match fails before a token comes', async () => {
    const { engine, matcher } = engineOf();
    matcher.prompt = false;
    engine.loop.add(requestOf('r', {}, { grammar: 'toy', thought: begun }));
    engine.loop.add(requestOf('free', { maxTokens: 9 }));
    await until(() => engine.finished.has('free'));
    expect(engine.tokens.has('r')).toBe(false);
    matcher.tell(matcher.matches[0]!);
    await until(() => engine.tokens.has('r'));
  });
});

it('any crowd on any machine: reasoning as it would be alone, and then the grammar', async () => {
  const id = fc.integer({ min: 0, max: 10 });
  const asked = fc.record({
    prompt: fc.array(id, { minLength: 1, maxLength: 12 }),
    maxTokens: fc.oneof(fc.integer({ min: 1, max: 30 }), fc.constant(30)),
    stopIds: fc.subarray([0, 8, 9]),
    ends: fc.uniqueArray(id, { minLength: 1, maxLength: 2 }),
    cancelled: fc.constantFrom(false, false, false, true),
  });
  const machine = fc.record({
    stepsInFlight: fc.integer({ min: 1, max: 4 }),
    blockSize: fc.constantFrom(2, 4, 5),
    room: fc.constantFrom(0, 0, 1, 4, 40),
    maxNumSeqs: fc.integer({ min: 1, max: 5 }),
    spareRows: fc.constantFrom(1, 3, 20),
    prefixCaching: fc.boolean(),
    maxDrafts: fc.constantFrom(0, 1, 3),
    slow: fc.boolean(),
  });
  let [turned, preempted, accepted] = [0, 0, 0];
  await fc.assert(
    fc.asyncProperty(
      fc.array(asked, { minLength: 1, maxLength: 6 }),
      machine,
      async (requests, { room, spareRows, slow, ...rest }) => {
        const totalBlocks = Math.ceil(42 / rest.blockSize) + room;
        const maxNumBatchedTokens = rest.maxNumSeqs + spareRows;
        const { engine } = engineOf({ ...rest, totalBlocks, maxNumBatchedTokens, ...(slow && { pause }) });
        for (const [i, { prompt, maxTokens, stopIds, ends, cancelled }] of requests.entries()) {
          const thought = { begun: true, starts: [], ends };
          engine.loop.add(requestOf(`r${i}`, { maxTokens, stopIds }, { prompt, grammar: 'toy', thought }));
          if (cancelled) setImmediate(() => engine.loop.cancel(`r${i}`));
        }
        const left = requests.flatMap(({ cancelled }, i) => (cancelled ? [] : [`r${i}`]));
        await until(() => left.every((name) => engine.finished.has(name)));
        expect(engine.lost).toEqual([]);
        for (const [i, { prompt, maxTokens, stopIds, ends, cancelled }] of requests.entries()) {
          const barred = stopIds.filter((stop) => !ends.includes(stop));
          const alone = reference(prompt, { ...GREEDY, maxTokens, stopIds: barred, minTokens: 99 }, 64).tokens;
          const end = alone.findIndex((token) => ends.includes(token)) + 1 || maxTokens;
          const tokens = engine.tokens.get(`r${i}`) ?? [];
          expect(tokens.slice(0, end)).toEqual(alone.slice(0, Math.min(end, cancelled ? tokens.length : maxTokens)));
          expect(follows(tokens.slice(end))).toBe(true);
          if (tokens.length > end) turned++;
        }
        preempted += engine.preemptions;
        accepted += engine.loop.load().counters.acceptedTokens;
      },
    ),
    { numRuns: 150, seed: 11 },
  );
  expect(Math.min(turned, preempted, accepted)).toBeGreaterThan(10);
});

describe('where the model chooses whether it reasons', () => {
  const chosen = freely()[0]!;

  it('a token that begins reasoning may be the first one, and then the grammar comes after the end', async () => {
    const { engine, matcher, tokens } = await answer({ thought: { begun: false, starts: [chosen], ends: [MARK] } });
    expect(tokens[0]).toBe(chosen);
    expect(matcher.allowed(0)).not.toContain(chosen);
    const end = tokens.indexOf(MARK) + 1;
    expect(tokens.slice(0, end)).toEqual(THOUGHT);
    expect(follows(tokens.slice(end))).toBe(true);
    // The first token was sampled under a mask, too.
    expect(held(engine)).toBe(1 + tokens.length - end);
  });

  it('any other first token is the grammar’s, and reasoning begins no more', async () => {
    const starts = [(chosen + 10) % 11];
    expect(starts).not.toContain(chosen);
    const { tokens, matcher } = await answer({ thought: { begun: false, starts, ends: [MARK] } });
    expect(starts).not.toContain(tokens[0]);
    expect(follows(tokens)).toBe(true);
    expect(matcher.matches[0]!.accepted).toEqual(tokens.slice(0, -1));
  });
});

describe('beside a grammar', () => {
  it('min_tokens holds stop ids back while something else is allowed', async () => {
    const { engine, matcher } = engineOf();
    // Where 10 stands for the end: it may come from the second token on, and nothing else after the sixth.
    matcher.allowed = (offset) => (offset === 0 ? [3] : offset < 6 ? [2, 10] : [10]);
    const stop = (minTokens: number) => ({ stopIds: [10], minTokens, maxTokens: 20 });
    for (const least of [0, 3, 4, 6, 9]) engine.loop.add(requestOf(`r${least}`, stop(least), { grammar: 'toy' }));
    await until(() => engine.finished.size === 5);
    const lengths = [0, 3, 4, 6, 9].map((least) => engine.tokens.get(`r${least}`)!.length);
    expect(lengths[0]).toBeLessThan(5);
    expect(lengths[1]).toBeGreaterThan(3);
    expect(lengths[2]).toBeGreaterThan(4);
    // The grammar allows nothing but its end.
    expect(lengths.slice(3)).toEqual([7, 7]);
    for (const least of [0, 3, 4, 6, 9]) expect(engine.tokens.get(`r${least}`)!.at(-1)).toBe(10);
  });

  it('grammarEnds: after its end the choice goes on freely, up to its length', async () => {
    const { engine, matcher } = engineOf();
    matcher.allowed = (offset) => (offset < 3 ? [offset] : [10]);
    const request = requestOf('r', { maxTokens: 12 }, { grammar: 'toy', grammarEnds: [10] });
    engine.loop.add(request);
    await until(() => engine.finished.has('r'));
    const tokens = engine.tokens.get('r')!;
    expect(tokens.slice(0, 4)).toEqual([0, 1, 2, 10]);
    const after = reference([...PROMPT, 0, 1, 2, 10], { ...GREEDY, maxTokens: 8 }, 64).tokens;
    expect(tokens.slice(4)).toEqual(after);
    expect(matcher.matches[0]).toMatchObject({ open: false, wish: { stopIds: [10] } });
    expect(held(engine)).toBe(4);
    for (const cut of [2, 4, 7]) {
      const next = engineOf();
      next.matcher.allowed = matcher.allowed;
      next.engine.loop.add({ ...request, choices: [{ choice: 0, generated: tokens.slice(0, cut) }] });
      await until(() => next.engine.finished.has('r'));
      expect(next.engine.tokens.get('r')).toEqual(tokens.slice(cut));
    }
  });
});
