import type { KnownNames } from './call-object.ts';
import type { TextParser } from './events.ts';
import { Mismatch, parserOf, type Read, type Reader, tentative } from './reader.ts';

/** The request's tools: the JSON Schema of each one's parameters, by name. */
export type Tools = ReadonlyMap<string, unknown>;

/** Where a call may begin, and what is known of it there. */
export interface CallStart {
  /** The marker that was read; null = the call would begin without one. */
  readonly marker: string | null;
  /** Without a marker only the request's tools are calls: a JSON object alone may as well be an answer. */
  readonly known: KnownNames;
  readonly tools: Tools;
}

/** How a model writes its calls. */
export interface CallFormat {
  /** What calls begin with; none of them begins with another. */
  readonly markers: readonly string[];
  /** Markers of the format that a vocabulary may have as special tokens. */
  readonly special: readonly string[];
  /** What a call may begin with without any marker, as the first thing of an answer; null = it cannot. */
  readonly bare: string | null;
  /** Reads what follows a marker, or all of a bare call. Throws `Mismatch` at the first character that does not fit. */
  read(reader: Reader, start: CallStart): Read<void>;
}

/** Finds calls of one format in a text. What only looks like a call is text, and so is what follows the last character that fits. */
export function callParser(format: CallFormat, tools: Tools): TextParser {
  return parserOf((reader) => scan(reader, format, tools));
}

function* scan(reader: Reader, format: CallFormat, tools: Tools): Read<void> {
  const text = (piece: string) => reader.emit('text', piece);
  if (format.bare !== null) yield* tentative(reader, bareCall(reader, format, tools));
  for (;;) {
    const marker = yield* reader.through(format.markers, text);
    if (marker === null) return text(reader.rest);
    const before = reader.calls;
    yield* tentative(reader, format.read(reader, { marker, known: null, tools }));
    if (reader.calls === before) text(marker);
  }
}

function* bareCall(reader: Reader, format: CallFormat, tools: Tools): Read<void> {
  yield* reader.spaces();
  if ((yield* reader.peek()) !== format.bare) throw new Mismatch();
  yield* format.read(reader, { marker: null, known: tools, tools });
}
