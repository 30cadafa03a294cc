import type { TextParser } from './events.ts';
import { HeldSpace } from './held-space.ts';
import { Mismatch, parserOf, type Read, type Reader, tentative } from './reader.ts';

/** How a model marks its reasoning, which is the first thing of an answer. */
export interface ThoughtFormat {
  readonly starts: readonly string[];
  readonly ends: readonly string[];
  /** What ends reasoning that nothing else has ended, and belongs to the answer itself. */
  readonly cutBy: readonly string[];
  /** Whether an answer begins with reasoning though no mark says so. */
  readonly assumed: boolean;
}

/** What the prompt says of reasoning at its end: begun, over, or nothing. */
export type PromptThought = 'open' | 'closed' | 'unsaid';

/** Parts reasoning from the answer. Whitespace around the marks goes with them; reasoning that never ends is all there is. */
export function thoughtParser(format: ThoughtFormat, prompt: PromptThought): TextParser {
  return parserOf((reader) => scan(reader, format, prompt));
}

function* scan(reader: Reader, format: ThoughtFormat, prompt: PromptThought): Read<void> {
  const marked = yield* tentative(reader, begin(reader, format));
  if (marked || prompt === 'open' || (format.assumed && prompt === 'unsaid')) yield* think(reader, format);
  yield* reader.through([], (text) => reader.emit('text', text));
}

function* begin(reader: Reader, { starts }: ThoughtFormat): Read<void> {
  yield* reader.spaces();
  if ((yield* reader.accept(...starts)) === null) throw new Mismatch();
}

function* think(reader: Reader, { ends, cutBy }: ThoughtFormat): Read<void> {
  const space = new HeldSpace();
  const reasoning = (text: string) => reader.emit('reasoning', space.push(text));
  yield* reader.spaces();
  const end = yield* reader.through([...ends, ...cutBy], reasoning);
  if (end === null) return reasoning(reader.rest);
  if (cutBy.includes(end)) reader.emit('text', end);
  else yield* reader.spaces();
}

/**
 * What a prompt says of reasoning at its end. `continued`: the part of the answer that the prompt ends with (`continue_final_message`),
 * null where the answer is yet to begin.
 */
export function promptThought(
  { starts, ends }: ThoughtFormat,
  prompt: string,
  continued: string | null,
): PromptThought {
  if (continued !== null) return last(starts, continued) > last(ends, continued) ? 'open' : 'closed';
  const text = prompt.trimEnd();
  if (starts.some((start) => text.endsWith(start))) return 'open';
  return ends.some((end) => text.endsWith(end)) ? 'closed' : 'unsaid';
}

function last(words: readonly string[], text: string): number {
  return Math.max(...words.map((word) => text.lastIndexOf(word)));
}
