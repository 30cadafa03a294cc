import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StepRecord } from '../../src/engine/api.ts';
import type { GrammarListener, GrammarMatch, GrammarMatcher, GrammarWish } from '../../src/engine/grammar.ts';
import { Detokenizer } from '../../src/frontend/detokenizer.ts';
import { jsonSchemaGrammar } from '../../src/frontend/grammar/json-schema.ts';
import { type ChatTokenizer, loadChatTokenizer } from '../../src/frontend/tokenizer.ts';
import { ThreadMatcher } from '../../src/node/grammar/thread-matcher.ts';
import { readVocabulary } from '../../src/node/grammar/vocabulary.ts';
import { readTokenizerFiles } from '../../src/node/tokenizer-files.ts';
import { systemClock } from '../../src/protocol/clock.ts';
import type { SamplingParams } from '../../src/protocol/sampling.ts';
import { folderFiles } from '../support/folder-files.ts';
import { startGrammarThread } from '../support/grammar-thread.ts';
import { SCHEMAS } from '../support/schemas.ts';
import { validated } from '../support/validated.ts';
import { PICO, TestEngine } from './test-engine.ts';

const VOCAB = 4096;
const END_IDS = [2, 0];
/** Outputs of each schema, in one request. */
const CHOICES = 2;

/** Holds masks back while it is closed. */
class Gate implements GrammarMatcher {
  closed = false;
  readonly #held: (() => void)[] = [];

  constructor(private readonly matcher: GrammarMatcher) {}

  open(wish: GrammarWish, listener: GrammarListener): GrammarMatch {
    return this.matcher.open(wish, {
      mask: (mask) => {
        if (this.closed) this.#held.push(() => listener.mask(mask));
        else listener.mask(mask);
      },
      failed: (error) => listener.failed(error),
    });
  }

  /** How many masks are held back. */
  get held(): number {
    return this.#held.length;
  }

  release(): void {
    this.closed = false;
    for (const tell of this.#held.splice(0)) tell();
  }
}

let engine: TestEngine;
let gate: Gate;
let tokenizer: ChatTokenizer;

beforeAll(async () => {
  const files = folderFiles(PICO);
  tokenizer = loadChatTokenizer(await readTokenizerFiles(files));
  const vocabulary = () => readVocabulary(files, VOCAB, END_IDS);
  gate = new Gate(new ThreadMatcher({ startThread: startGrammarThread, vocabulary, clock: systemClock }));
  engine = await TestEngine.create({ grammars: gate });
});
afterAll(() => engine.close());

const hot = (seed: number): Partial<SamplingParams> => ({
  ...{ temperature: 1.5, maxTokens: 250, stopIds: END_IDS },
  seed: [seed, 1],
});

function textOf(tokens: readonly number[]): string {
  const detokenizer = new Detokenizer(tokenizer, true);
  return tokens.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
}

const prompt = () => tokenizer.encode('Tell me something about the sea.', false);

describe('outputs at temperature 1.5', () => {
  it('are valid by their schemas, all of them in one crowd', async () => {
    const names = Object.keys(SCHEMAS);
    const runs = names.map(async (name, i) => {
      const schema = SCHEMAS[name] as object;
      const outputs = await engine.generate(prompt(), hot(i), CHOICES, `s${i}`, undefined, {
        grammar: jsonSchemaGrammar(schema),
      });
      const ended = outputs.filter(({ finish }) => finish === 'stop');
      for (const { tokens } of ended) {
        try {
          validated(schema, textOf(tokens));
        } catch (error) {
          throw new Error(`${name}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
      return { name, ended: ended.length, texts: new Set(outputs.map(({ tokens }) => textOf(tokens))).size };
    });
    const results = await Promise.all(runs);
    const total = results.reduce((sum, { ended }) => sum + ended, 0);
    // The rest ran into max_tokens, which cuts a text anywhere.
    expect(total).toBeGreaterThan(0.8 * CHOICES * names.length);
    for (const { name, ended } of results) expect(ended, name).toBeGreaterThan(0);
    const crowds = engine.engine.steps().map(({ constrainedRows }) => constrainedRows);
    expect(Math.max(...crowds)).toBeGreaterThan(4);
  });
});

it('free rows go on at their speed beside constrained ones, and give the tokens that they give alone', async () => {
  const free = { maxTokens: 60, temperature: 1, seed: [5, 5] as [number, number] };
  const alone = await engine.one(prompt(), free);
  const before = engine.engine.steps().at(-1)!.step;
  const grammar = jsonSchemaGrammar(SCHEMAS['nested objects and arrays'] as object);
  const [constrained, beside] = await Promise.all([
    engine.generate(prompt(), { ...hot(99), maxTokens: 120 }, 3, 'held', undefined, { grammar }),
    engine.one(prompt(), free),
  ]);
  expect(beside.tokens).toEqual(alone.tokens);
  for (const { tokens, finish } of constrained)
    if (finish === 'stop') validated(SCHEMAS['nested objects and arrays'] as object, textOf(tokens));
  const steps = engine.engine.steps().filter(({ step }) => step > before);
  const freeSteps = steps.filter(
    ({ rows, constrainedRows, prefillRows }: StepRecord) => rows > constrainedRows && prefillRows === 0,
  );
  // While the free row runs it is in every step, with others of its kind in flight.
  expect(freeSteps.length).toBeGreaterThanOrEqual(58);
  expect(freeSteps.some(({ constrainedRows }) => constrainedRows > 0)).toBe(true);
  const overlapped = freeSteps.filter(({ inFlight }) => inFlight > 0).length;
  expect(overlapped).toBeGreaterThan(freeSteps.length / 2);
});

it('not a step of a free row waits for the masks of others', async () => {
  const schema = SCHEMAS['enums of all types'] as object;
  const free = { maxTokens: 40, temperature: 1, seed: [8, 8] as [number, number] };
  const alone = await engine.one(prompt(), free);
  const first = engine.engine.steps().at(-1)!.step;
  gate.closed = true;
  const constrained = engine.generate(prompt(), hot(4), 2, 'waiting', undefined, {
    grammar: jsonSchemaGrammar(schema),
  });
  await expect.poll(() => gate.held, { timeout: 30_000 }).toBe(2);
  const beside = await engine.one(prompt(), free);
  expect(beside.tokens).toEqual(alone.tokens);
  const steps = engine.engine.steps().filter(({ step }) => step > first);
  // One of the prompt, one of each token after the first; what was in flight when the last one came is left out.
  expect(steps.every(({ constrainedRows, rows }) => constrainedRows === 0 && rows >= 1)).toBe(true);
  expect(steps.filter(({ prefillRows }) => prefillRows > 0)).toHaveLength(1);
  expect(steps.filter(({ prefillRows }) => prefillRows === 0).length).toBe(39);
  expect(steps.filter(({ inFlight }) => inFlight > 0).length).toBeGreaterThan(20);
  expect(engine.tokensOf('waiting')).toBe(0);
  gate.release();
  for (const { tokens, finish } of await constrained) {
    expect(finish).toBe('stop');
    validated(schema, textOf(tokens));
  }
});

it('an attempt that goes on from the tokens of another gives what that one would have given', async () => {
  const schema = SCHEMAS['an object with required properties, no others'] as object;
  const grammar = jsonSchemaGrammar(schema);
  const whole = (await engine.generate(prompt(), hot(7), 1, 'whole', undefined, { grammar }))[0]!;
  expect(whole.finish).toBe('stop');
  for (const cut of [1, Math.floor(whole.tokens.length / 2), whole.tokens.length - 1]) {
    const rest = await engine.resume(prompt(), whole.tokens.slice(0, cut), hot(7), { grammar });
    expect(rest.tokens).toEqual(whole.tokens.slice(cut));
  }
});

it('max_tokens cuts a text short: finish reason length', async () => {
  const grammar = jsonSchemaGrammar({ type: 'string', minLength: 50, maxLength: 60 });
  const [cut] = await engine.generate(prompt(), { ...hot(3), maxTokens: 5 }, 1, 'cut', undefined, { grammar });
  expect(cut).toMatchObject({ finish: 'length', tokens: { length: 5 } });
  expect(textOf(cut!.tokens)).toMatch(/^"/);
});

it('a grammar that is wrong fails its own request alone', async () => {
  const good = jsonSchemaGrammar(SCHEMAS['enums of all types'] as object);
  const wrong = engine.generate(prompt(), hot(1), 1, 'wrong', undefined, { grammar: 'root ::= missing' });
  const right = engine.generate(prompt(), hot(1), 1, 'right', undefined, { grammar: good });
  await expect(wrong).rejects.toThrow('Rule "missing" is not defined');
  expect((await right)[0]!.finish).toBe('stop');
  const endless = engine.generate(prompt(), { ...hot(1), stopIds: [] }, 1, 'endless', undefined, { grammar: good });
  await expect(endless).rejects.toThrow('could not end');
});
