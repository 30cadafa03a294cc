import { afterAll, beforeAll, expect, it } from 'vitest';
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
import { PICO, reference, TestEngine } from './test-engine.ts';

const END_IDS = [2, 0];
const schema = SCHEMAS['an object with required properties, no others'] as object;
const grammar = jsonSchemaGrammar(schema);
/** quire-pico goes on repeating itself after this, so that drafts are right. */
const repeating = reference.cases[4]!.input_ids;
const other = reference.cases[6]!.input_ids;

let engine: TestEngine;
let tokenizer: ChatTokenizer;

beforeAll(async () => {
  const files = folderFiles(PICO);
  tokenizer = loadChatTokenizer(await readTokenizerFiles(files));
  const vocabulary = () => readVocabulary(files, 4096, END_IDS);
  engine = await TestEngine.create({
    grammars: new ThreadMatcher({ startThread: startGrammarThread, vocabulary, clock: systemClock }),
    speculation: { drafts: 4, lookup: { min: 2, max: 4 } },
  });
});
afterAll(() => engine.close());

function textOf(tokens: readonly number[]): string {
  const detokenizer = new Detokenizer(tokenizer, true);
  return tokens.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
}

const sampling = (temperature: number): Partial<SamplingParams> => ({
  ...{ temperature, maxTokens: 150, stopIds: END_IDS, seed: [3, 4] },
});

/** What is said where nothing holds it, and the token that ends reasoning at the first place that is late enough. */
async function freely(prompt: readonly number[], temperature: number) {
  const { tokens } = await engine.one(prompt, { ...sampling(temperature), minTokens: 99, maxTokens: 40 });
  const end = tokens.findIndex((token, at) => at >= 10 && tokens.indexOf(token) === at);
  expect(end).toBeGreaterThan(0);
  return { thought: tokens.slice(0, end + 1), mark: tokens[end]! };
}

it.each([
  { name: 'with drafts', prompt: repeating, temperature: 0.2 },
  { name: 'at temperature 1.5', prompt: other, temperature: 1.5 },
])('reasoning is what it would be without a grammar, and the answer after it is valid: $name', async (options) => {
  const { prompt, temperature } = options;
  const { thought, mark } = await freely(prompt, temperature);
  const before = engine.engine.steps().at(-1)!.step;
  const more = { grammar, thought: { begun: true, starts: [], ends: [mark] } };
  const choices = await engine.generate(prompt, sampling(temperature), 2, `whole-${temperature}`, undefined, more);
  const [first] = choices;
  expect(first!.tokens.slice(0, thought.length)).toEqual(thought);
  expect(first!.finish).toBe('stop');
  for (const { tokens, finish } of choices)
    if (finish === 'stop') validated(schema, textOf(tokens.slice(tokens.indexOf(mark) + 1)));
  const steps = engine.engine.steps().filter(({ step }) => step > before);
  const held = steps.reduce((sum, { constrainedRows }) => sum + constrainedRows, 0);
  const ends = choices.map(({ tokens }) => tokens.indexOf(mark) + 1 || tokens.length);
  expect(held).toBe(choices.reduce((sum, { tokens }, i) => sum + tokens.length - ends[i]!, 0));
  const free = steps.filter(({ constrainedRows, prefillRows }) => constrainedRows === 0 && prefillRows === 0);
  expect(free.some(({ inFlight }) => inFlight > 0)).toBe(true);
  if (temperature < 1) expect(steps.some(({ draftRows }) => draftRows > 0)).toBe(true);
  // An attempt goes on from anywhere: within the reasoning, at its end, within the answer.
  const { tokens } = first!;
  for (const cut of [thought.length - 1, thought.length, thought.length + 2]) {
    const rest = await engine.resume(prompt, tokens.slice(0, cut), sampling(temperature), more);
    expect(rest.tokens).toEqual(tokens.slice(cut));
  }
});

it('the model chooses whether it reasons: by its first token', async () => {
  const { thought, mark } = await freely(other, 1.5);
  const [start] = thought as [number];
  const more = { grammar, thought: { begun: false, starts: [start], ends: [mark] } };
  // A bias decides: what is not allowed stays out all the same.
  const [thinks] = await engine.generate(
    other,
    { ...sampling(1.5), logitBias: [[start, 100]] },
    1,
    'thinks',
    undefined,
    { ...more, thought: { ...more.thought, ends: [start] } },
  );
  expect(thinks!.tokens.slice(0, 2)).toEqual([start, start]);
  expect(thinks!.finish).toBe('stop');
  validated(schema, textOf(thinks!.tokens.slice(2)));
  const bias: [number, number][] = [[start, -100]];
  const [at] = await engine.generate(other, { ...sampling(1.5), logitBias: bias }, 1, 'at once', undefined, more);
  expect(at!.finish).toBe('stop');
  validated(schema, textOf(at!.tokens));
});

it('reasoning that does not end is cut by its length, and no end token comes before', async () => {
  const bias = END_IDS.map((id): [number, number] => [id, 100]);
  const more = { grammar, thought: { begun: true, starts: [], ends: [4000] } };
  const asked = { ...sampling(1), logitBias: [...bias, [4000, -100] as [number, number]], maxTokens: 20 };
  const [cut] = await engine.generate(other, asked, 1, 'cut', undefined, more);
  expect(cut).toMatchObject({ finish: 'length', tokens: { length: 20 } });
  expect(cut!.tokens.filter((id) => END_IDS.includes(id))).toEqual([]);
});

it('min_tokens holds the end back while the grammar allows more; ignore_eos goes on after it', async () => {
  const letters = 'root ::= [a-c] [a-c]*\n';
  const eager = { ...sampling(1), logitBias: END_IDS.map((id): [number, number] => [id, 20]) };
  const [at] = await engine.generate(other, eager, 1, 'eager', undefined, { grammar: letters });
  expect(at!.tokens).toHaveLength(2);
  const [later] = await engine.generate(other, { ...eager, minTokens: 9 }, 1, 'later', undefined, { grammar: letters });
  expect(later!.tokens).toHaveLength(10);
  expect(textOf(later!.tokens)).toMatch(/^[a-c]{9,}$/);
  const only = { ...eager, minTokens: 9 };
  const [yes] = await engine.generate(other, only, 1, 'only', undefined, { grammar: 'root ::= "yes"' });
  expect([yes!.finish, textOf(yes!.tokens)]).toEqual(['stop', 'yes']);
  const endless = { ...sampling(1), stopIds: [], maxTokens: 30 };
  const more = { grammar: 'root ::= "yes"', grammarEnds: END_IDS };
  const [on] = await engine.generate(other, endless, 1, 'endless', undefined, more);
  expect(on).toMatchObject({ finish: 'length', tokens: { length: 30 } });
  expect(textOf(on!.tokens)).toMatch(/^yes/);
  const end = on!.tokens.findIndex((id) => END_IDS.includes(id));
  expect(textOf(on!.tokens.slice(0, end))).toBe('yes');
});
