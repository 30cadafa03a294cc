import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Rules } from '../../../../src/frontend/grammar/ebnf.ts';
import { stringSet } from '../../../../src/frontend/grammar/json-text.ts';
import { regexGrammar } from '../../../../src/frontend/grammar/regex.ts';
import { Sentences } from '../../../support/sentences.ts';

const sentences = await Sentences.open();

function grammarOf(source: string): string {
  const rules = new Rules();
  rules.reserve('root');
  rules.define('root', regexGrammar(source, (set) => ({ kind: 'set', set })).node);
  return rules.print();
}

const LETTERS = [
  'a',
  'b',
  'c',
  '1',
  ' ',
  'é',
  '€',
  '🦊',
  '\n',
  '"',
  '\\',
  '-',
  '\u00a0',
  'ÿ',
  '\u07ff',
  '\u0800',
  '\uffff',
];

it.each([
  'a|bc|',
  'a*b+c?',
  '(a|b){2,3}',
  '(?:ab){1,}c{0}',
  '[a-c1]+',
  '[^ab]',
  '[^\\n"]{1,3}',
  '.',
  '..',
  '[é-🦊]+',
  '[\\u0080-\\u07ff]',
  '[\\u{800}-\\u{ffff}]',
  '\\u{1F98A}|€',
  '\\w\\W',
  '\\d|\\s+',
  '\\S\\D',
  '[\\w\\-]+',
  '[\\s"\\\\]+',
  '^a|b$',
  '^(?:a|b$)$'.replace('$)$', ')$'),
  '(?<name>a)b',
  'a+?b*?',
  '\\x61\\u0062\\x{2}'.replace('\\x{2}', 'c{2}'),
  '((a*)*)*b',
])('matches what the engine of this machine matches: %s', async (source) => {
  const grammar = grammarOf(source);
  const regex = new RegExp(`^(?:${source.replace(/^\^/, '').replace(/\$$/, '').replaceAll('|b$', '|b')})$`, 'u');
  const texts = fc.array(fc.constantFrom(...LETTERS), { maxLength: 4 }).map((letters) => letters.join(''));
  await fc.assert(
    fc.asyncProperty(texts, async (text) => {
      const expected = regex.test(text);
      expect(await sentences.accepts(grammar, text), JSON.stringify(text)).toBe(expected);
    }),
    { numRuns: 150, seed: 3 },
  );
});

it('takes each character of a set, of any length in UTF-8, and no bytes that are no character', async () => {
  const sets: [string, RegExp][] = [
    ['[\\u0000-\\u{10ffff}]', /^.$/su],
    ['[^a]', /^[^a]$/u],
    ['[\\u00e0-\\u01f5]', /^[\u00e0-\u01f5]$/u],
    ['[\\u4e01-\\u9fa5]', /^[\u4e01-\u9fa5]$/u],
    ['[\\u{1f000}-\\u{1f6ff}]', /^[\u{1f000}-\u{1f6ff}]$/u],
    ['[é]', /^é$/u],
  ];
  const edges = [
    0, 0x60, 0x61, 0x7f, 0x80, 0xdf, 0xe0, 0xe9, 0x1f5, 0x1f6, 0x7ff, 0x800, 0x4e00, 0x4e01, 0x9fa5, 0x9fa6, 0xd7ff,
    0xe000, 0xfffd, 0xffff, 0x10000, 0x1efff, 0x1f000, 0x1f6ff, 0x1f700, 0x10ffff,
  ];
  for (const [source, regex] of sets) {
    const grammar = grammarOf(source);
    for (const code of edges) {
      const char = String.fromCodePoint(code);
      expect(await sentences.accepts(grammar, char), `${code.toString(16)} in ${source}`).toBe(regex.test(char));
    }
  }
});

it('knows how long matches are', () => {
  const lengths = (source: string) => {
    const { shortest, longest } = regexGrammar(source, stringSet);
    return [shortest, longest];
  };
  expect(lengths('ab|c')).toEqual([1, 2]);
  expect(lengths('(ab){2,3}c?')).toEqual([4, 7]);
  expect(lengths('a+')).toEqual([1, null]);
  expect(lengths('')).toEqual([0, 0]);
});

describe('refuses by name', () => {
  it.each([
    ['a(?=b)', 'look-around'],
    ['(?<!a)b', 'look-around'],
    ['(a)\\1', 'back-references'],
    ['\\bword', 'word borders'],
    ['\\p{L}', 'Unicode properties'],
    ['a^b', "'^' that is not at its beginning"],
    ['a$b', "'$' that is not at its end"],
    ['(a', "'(' without its ')'"],
    ['a)', "')' without its partner"],
    ['[a', "'[' without its ']'"],
    ['[z-a]', 'does not rise'],
    ['*a', "'*' with nothing before it"],
    ['a**', 'a quantifier after a quantifier'],
    ['a{x}', "'{' that is no quantifier"],
    ['a{3,2}', 'ends before it begins'],
    ['a\\', "'\\' at its end"],
    ['[^\\u0000-\\u{10ffff}]', 'empty'],
    ['\\ud83d', 'a character by number that is none'],
  ])('%s', (source, words) => {
    expect(() => grammarOf(source)).toThrow(words);
  });
});
