import { describe, expect, it } from 'vitest';
import { THOUGHT_FORMATS } from '../../../src/frontend/parsers/model-parsers.ts';
import { thoughtBefore } from '../../../src/frontend/thought-before.ts';
import { pico } from './support.ts';

const { qwen3, deepseek_r1: deepseek, granite } = THOUGHT_FORMATS;
const [start, end] = pico.encode('<think></think>', false);
const marks = { starts: [start], ends: [end] };

describe('the reasoning before a grammar', () => {
  it.each([
    ['the prompt has begun it', qwen3, 'open', true, { begun: true, ...marks }],
    ['the same, whoever may choose', qwen3, 'open', false, { begun: true, ...marks }],
    ['the model may choose', qwen3, 'unsaid', true, { begun: false, ...marks }],
    ['it may not', qwen3, 'unsaid', false, null],
    ['it is over', qwen3, 'closed', true, null],
    ['the model always reasons', deepseek, 'unsaid', false, { begun: true, ...marks }],
    ['unless it is over', deepseek, 'closed', true, null],
    ['its marks are words, which begin no grammar', granite, 'unsaid', true, null],
  ] as const)('%s', (_name, format, prompt, chooses, expected) => {
    expect(thoughtBefore(format, prompt, chooses, pico)).toEqual(expected);
  });

  it('that has begun and has no token at its end is refused', () => {
    const without = { tokenIds: () => new Set<number>() };
    expect(() => thoughtBefore(deepseek, 'unsaid', true, without)).toThrow('no token that ends it');
    expect(thoughtBefore(qwen3, 'unsaid', true, without)).toBeNull();
  });
});
