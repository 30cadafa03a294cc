import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { REASONING_PARSERS } from '../../../../src/config/parser-names.ts';
import { THOUGHT_FORMATS } from '../../../../src/frontend/parsers/model-parsers.ts';
import { type PromptThought, promptThought, thoughtParser } from '../../../../src/frontend/parsers/thought.ts';
import { pieces, read, units } from './read.ts';

const MARKS = {
  qwen3: ['<think>', '</think>'],
  deepseek_r1: ['<think>', '</think>'],
  granite: ['Here is my thought process:', "Here's my response:"],
  basic: ['<think>', '</think>'],
} as const;
const prose = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replace(/[<:]/g, '~').trim());

describe.each(REASONING_PARSERS)('%s', (name) => {
  const format = THOUGHT_FORMATS[name];
  const [start, end] = MARKS[name];
  const parts = (text: readonly string[], prompt: PromptThought = 'unsaid') => {
    const { reasoning, text: answer, calls } = read(thoughtParser(format, prompt), text);
    expect(calls).toEqual([]);
    return [reasoning, answer];
  };

  test('reasoning and answer are parted, in any pieces, whoever began', () => {
    fc.assert(
      fc.property(
        fc.tuple(prose, prose).chain(([thought, answer]) =>
          fc.record({
            thought: fc.constant(thought),
            answer: fc.constant(answer),
            cut: pieces(`${start}\n${thought}\n${end}\n\n${answer}`),
            opened: pieces(`${thought}\n${end}\n\n${answer}`),
          }),
        ),
        ({ thought, answer, cut, opened }) => {
          expect(parts(cut)).toEqual([thought, answer]);
          expect(parts(opened, 'open')).toEqual([thought, answer]);
        },
      ),
    );
  });

  test('any text gives the same in any pieces', () => {
    const words = fc.constantFrom(
      start,
      end,
      '<think>',
      '</think>',
      'Here is my ',
      'response:',
      '<tool_call>\n',
      '<function=',
      '<',
      ' ',
      '\n',
      'x',
    );
    const soup = fc.array(words, { maxLength: 16 }).map((all) => all.join(''));
    fc.assert(
      fc.property(
        soup.chain((text) => fc.record({ text: fc.constant(text), cut: pieces(text) })),
        fc.constantFrom<PromptThought>('open', 'closed', 'unsaid'),
        ({ text, cut }, prompt) => {
          const whole = parts([text], prompt);
          expect(parts(cut, prompt)).toEqual(whole);
          expect(parts(units(text), prompt)).toEqual(whole);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a mark inside of the answer is text', () => {
    const text = `It says ${start} and ${end} there.`;
    expect(parts([text], 'closed')).toEqual(['', text]);
    expect(parts([`${start}a${end}${text}`])).toEqual(['a', text]);
  });

  test('reasoning that never ends is all there is', () => {
    expect(parts([`${start}\nso then\n`])).toEqual(['so then', '']);
    expect(parts(units('so then'), 'open')).toEqual(['so then', '']);
  });

  test('the prompt tells where it left off', () => {
    expect(promptThought(format, `user: ${start} x ${end}\nassistant:\n`, null)).toBe('unsaid');
    expect(promptThought(format, `assistant:\n${start}\n`, null)).toBe('open');
    expect(promptThought(format, `assistant:\n${start}\n\n${end}\n\n`, null)).toBe('closed');
    expect(promptThought(format, 'any', `${start} I thi`)).toBe('open');
    expect(promptThought(format, 'any', `${start} I think ${end} So`)).toBe('closed');
    expect(promptThought(format, `any ${start}`, 'The answer is')).toBe('closed');
  });
});

test('deepseek_r1 reasons also where no mark begins it, unless the prompt ended that', () => {
  const parts = (prompt: PromptThought) => read(thoughtParser(THOUGHT_FORMATS.deepseek_r1, prompt), ['a</think>b']);
  expect(parts('unsaid')).toMatchObject({ reasoning: 'a', text: 'b' });
  expect(parts('closed')).toMatchObject({ reasoning: '', text: 'a</think>b' });
});

test('qwen3 may go from reasoning into a call', () => {
  const call = '<tool_call>\n<function=now>\n</function>\n</tool_call>';
  const text = `<think>I could <tool_call> it.\n${call}`;
  expect(read(thoughtParser(THOUGHT_FORMATS.qwen3, 'unsaid'), units(text))).toMatchObject({
    reasoning: 'I could <tool_call> it.',
    text: call,
  });
});
