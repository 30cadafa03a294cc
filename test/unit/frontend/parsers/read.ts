import * as fc from 'fast-check';
import type { ParserEvent, TextParser } from '../../../../src/frontend/parsers/events.ts';

export interface ReadCall {
  readonly name: string;
  readonly arguments: string;
  readonly whole: boolean;
}

export interface ReadText {
  readonly text: string;
  readonly reasoning: string;
  readonly calls: readonly ReadCall[];
}

interface Reads {
  push(text: string): readonly ParserEvent[];
  flush(): readonly ParserEvent[];
}

/** All that a parser makes of a text that comes in `pieces`. Fails where its events are out of order. */
export function read(parser: TextParser | Reads, pieces: readonly string[]): ReadText {
  const events = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()];
  let text = '';
  let reasoning = '';
  const calls: { name: string; arguments: string; whole: boolean }[] = [];
  for (const event of events) {
    const open = calls.at(-1);
    if (event.type === 'text') text += event.text;
    else if (event.type === 'reasoning') reasoning += event.text;
    else if (event.type === 'call') calls.push({ name: event.name, arguments: '', whole: false });
    else if (open === undefined || open.whole) throw new Error(`${event.type} outside of a call`);
    else if (event.type === 'arguments') open.arguments += event.text;
    else open.whole = true;
  }
  return { text, reasoning, calls };
}

/** `text` cut into pieces, anywhere, also into empty ones. */
export const pieces = (text: string): fc.Arbitrary<string[]> =>
  fc.array(fc.nat({ max: text.length }), { maxLength: 12 }).map((cuts) => {
    const at = [0, ...cuts.sort((a, b) => a - b), text.length];
    return at.slice(1).map((end, i) => text.slice(at[i], end));
  });

/** The worst cut of all. */
export const units = (text: string): string[] => text.split('');
