import { expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { PrefillCanary } from '../../../src/node/prefill-canary.ts';
import { GREEDY } from '../../../src/protocol/sampling.ts';
import { ScriptedEngine } from '../../support/scripted-engine.ts';

const REQUEST = {
  request: 'canary-1',
  prompt: [1, 2, 3],
  choices: [{ choice: 0, generated: [] }],
  sampling: { ...GREEDY, maxTokens: 1 },
  cache: false as const,
};

function setUp() {
  const sent: unknown[] = [];
  const canary = new PrefillCanary({
    sendTokens: (frames) => sent.push(...frames),
    sendFailed: (...failed) => sent.push(failed),
  });
  const engine: ScriptedEngine = new ScriptedEngine({
    tokens() {},
    kvEvents() {},
    prefilled: (request, progress) => canary.prefilled(request, progress),
    failed() {},
    lost() {},
  });
  return { sent, canary, engine };
}

test('H1: a prefill node computes the prompt in prefill form, answers with an end without tokens, and keeps nothing', () => {
  const { sent, canary, engine } = setUp();
  canary.start(engine, 0, REQUEST);
  expect(engine.kv.prefills.size).toBe(1);
  expect(sent).toEqual([]);
  engine.step();
  expect(sent).toEqual([
    { request: 'canary-1', attempt: 0, choice: 0, offset: 0, tokens: [], cachedTokens: 0, finish: 'length' },
  ]);
  expect(engine.kv.prefills.size).toBe(0);
  expect(canary.prefilled('a-transfer', { blocks: 1, done: true, computedTokens: 1, cachedTokens: 0 })).toBe(false);
});

test('a prompt that the engine gives up, and a node without an engine, say so', () => {
  const { sent, canary, engine } = setUp();
  canary.start(engine, 0, REQUEST);
  expect(canary.failed('canary-1', new EngineError('internal', 'It broke.'))).toBe(true);
  expect(canary.failed('of a transfer', new EngineError('internal', 'It broke.'))).toBe(false);
  canary.start(null, 1, REQUEST);
  expect(sent).toEqual([
    ['canary-1', 0, 'engine', 'It broke.'],
    ['canary-1', 1, 'overloaded', 'This node has no such engine now.'],
  ]);
});

test('cancelled, it keeps nothing and says nothing', () => {
  const { sent, canary, engine } = setUp();
  canary.start(engine, 0, REQUEST);
  canary.cancel('canary-1');
  expect(engine.kv.prefills.size).toBe(0);
  engine.step();
  expect(sent).toEqual([]);
});
