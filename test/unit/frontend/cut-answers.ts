import fc from 'fast-check';
import type { ChatReading } from '../../../src/frontend/chat-reading.ts';
import type { ChoiceDelta, Finish } from '../../../src/frontend/choice-stream.ts';
import { callParser } from '../../../src/frontend/parsers/call-scanner.ts';
import { CALL_FORMATS, THOUGHT_FORMATS } from '../../../src/frontend/parsers/model-parsers.ts';
import { OutputParser } from '../../../src/frontend/parsers/output-parser.ts';
import { thoughtParser } from '../../../src/frontend/parsers/thought.ts';

/** Answers with Hermes' calls and Qwen3's reasoning. */
export const READING: ChatReading = {
  parser: () =>
    new OutputParser({
      thought: thoughtParser(THOUGHT_FORMATS.qwen3, 'unsaid'),
      calls: callParser(CALL_FORMATS.hermes, new Map()),
      showThought: true,
      parallel: true,
    }),
  counter: () => null,
  thought: null,
  shownTokenIds: new Set(),
};

const words = fc.array(fc.constantFrom('Łódź', ' is', ' sunny', '\n', ' ', '<tool_call', '{"a": 1}', '🎉', '.'), {
  maxLength: 6,
});
const text = words.map((all) => all.join(''));
const call = fc
  .record({ name: fc.constantFrom('now', 'get_weather'), arguments: fc.dictionary(fc.string(), fc.jsonValue()) })
  .map((value) => `<tool_call>\n${JSON.stringify(value)}\n</tool_call>`);
const parts = fc.array(fc.oneof(text, call), { maxLength: 5 }).map((all) => all.join('\n'));

/** Texts of answers that ended by themselves: reasoning or none, then texts and calls in any order. */
export const answers = fc
  .tuple(fc.option(text), parts)
  .map(([thought, rest]) => (thought === null ? rest : `<think>${thought}</think>\n\n${rest}`));

/** A text cut into deltas, some of them empty; the last one says how it ended. */
export function cut(whole: string, at: readonly number[], finish: Finish): ChoiceDelta[] {
  const ends = [...at.map((place) => place % (whole.length + 1)), whole.length].sort((a, b) => a - b);
  const pieces = ends.map((end, i) => whole.slice(ends[i - 1] ?? 0, end));
  return pieces.map((piece, i) => ({
    choice: 0,
    text: piece,
    tokens: [],
    finish: i === pieces.length - 1 ? finish : null,
    promptLogprobs: null,
    cachedTokens: null,
  }));
}
export const cuts = fc.array(fc.nat(), { maxLength: 12 });
