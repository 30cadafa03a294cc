import type { ParserEvent, TextParser } from './events.ts';

/** Most characters that may wait for the name of their call; a longer run is text. */
const MAX_HELD = 16_384;
/** Longer texts are read in parts, so that looking ahead costs no more than this. */
const MAX_PIECE = 4096;

/** A machine that reads: it yields where it needs more text, and ends only with the text. */
export type Read<T> = Generator<undefined, T, undefined>;

/** The text is not what it looked like. */
export class Mismatch extends Error {}

/**
 * The text of a parser's machine: what came of it, how far it is read, and what was found. From `hold` to the next `call` nothing that
 * was read is given away, so that `giveBack` can make text of it.
 */
export class Reader {
  #text = '';
  #at = 0;
  #held: number | null = null;
  #ended = false;
  #events: ParserEvent[] = [];
  /** Calls that were told so far. */
  calls = 0;

  /** What came and is not read yet. */
  get rest(): string {
    return this.#text.slice(this.#at);
  }

  feed(text: string): void {
    const from = this.#held ?? this.#at;
    this.#text = this.#text.slice(from) + text;
    this.#at -= from;
    if (this.#held !== null) this.#held = 0;
  }

  end(): void {
    this.#ended = true;
  }

  /** What was found since the last time. */
  take(): readonly ParserEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** Waits for a character; false at the end of the text. */
  *more(): Read<boolean> {
    while (this.#at === this.#text.length) {
      if (this.#ended) return false;
      yield;
    }
    return true;
  }

  /** Waits for text beyond what is there; false at its end. */
  *moreThan(length: number): Read<boolean> {
    while (this.#text.length - this.#at <= length) {
      if (this.#ended) return false;
      yield;
    }
    return true;
  }

  /** The next character, unread; '' at the end. */
  *peek(): Read<string> {
    return (yield* this.more()) ? this.#text.charAt(this.#at) : '';
  }

  /** Moves on by `length` characters, which are there. Throws `Mismatch` where too much is held. */
  skip(length: number): void {
    this.#at += length;
    if (this.#held !== null && this.#at - this.#held > MAX_HELD) throw new Mismatch();
  }

  *spaces(): Read<void> {
    while (yield* this.more()) {
      const { rest } = this;
      const length = rest.length - rest.trimStart().length;
      this.skip(length);
      if (length < rest.length) return;
    }
  }

  /** Reads one of `words` if the text goes on with it; of two that fit, the one named first. */
  *accept(...words: readonly string[]): Read<string | null> {
    for (;;) {
      const { rest } = this;
      const open = words.some((word) => word.length > rest.length && word.startsWith(rest));
      if (open && (yield* this.moreThan(rest.length))) continue;
      const found = words.find((word) => rest.startsWith(word)) ?? null;
      if (found !== null) this.skip(found.length);
      return found;
    }
  }

  /** Throws `Mismatch` unless the text goes on with `word`. */
  *expect(word: string): Read<void> {
    if ((yield* this.accept(word)) === null) throw new Mismatch();
  }

  /** At most `limit` characters up to `end`, which is read too. Throws `Mismatch` where it does not come. */
  *until(end: string, limit: number): Read<string> {
    for (;;) {
      const { rest } = this;
      const at = rest.indexOf(end);
      if (at > limit || (at < 0 && rest.length >= limit + end.length)) throw new Mismatch();
      if (at >= 0) {
        this.skip(at + end.length);
        return rest.slice(0, at);
      }
      if (!(yield* this.moreThan(rest.length))) throw new Mismatch();
    }
  }

  /**
   * Gives `out` all text up to the first of `ends`, none of which begins with another, and reads that one. null when the text ends before:
   * what may have been the beginning of one is left then.
   */
  *through(ends: readonly string[], out: (text: string) => void): Read<string | null> {
    for (;;) {
      const { rest } = this;
      const found = earliest(rest, ends);
      const at = found === null ? rest.length : rest.indexOf(found);
      // The end of what is there may begin one that is earlier.
      const sure = Math.min(at, rest.length - beginning(rest, ends));
      this.#give(sure, out);
      if ((found === null || sure < at) && (yield* this.moreThan(rest.length - sure))) continue;
      if (found === null) return null;
      this.#give(at - sure, out);
      this.skip(found.length);
      return found;
    }
  }

  #give(length: number, out: (text: string) => void): void {
    if (length === 0) return;
    out(this.#text.slice(this.#at, this.#at + length));
    this.skip(length);
  }

  /** From here on what is read is held. */
  hold(): void {
    this.#held = this.#at;
  }

  release(): void {
    this.#held = null;
  }

  /** Unreads what is held, if anything is. */
  giveBack(): void {
    this.#at = this.#held ?? this.#at;
    this.#held = null;
  }

  emit(type: 'text' | 'reasoning' | 'arguments', text: string): void {
    if (text === '') return;
    const last = this.#events.at(-1);
    if (last?.type === type) this.#events.splice(-1, 1, { type, text: last.text + text });
    else this.#events.push({ type, text });
  }

  /** A call is certain: what was held was its head. */
  call(name: string): void {
    this.release();
    this.calls++;
    this.#events.push({ type: 'call', name });
  }

  /** The call is whole; what follows is held again. */
  callEnd(): void {
    this.#events.push({ type: 'call_end' });
    this.hold();
  }
}

function earliest(text: string, words: readonly string[]): string | null {
  let found: string | null = null;
  let first = text.length;
  for (const word of words) {
    const at = text.indexOf(word);
    if (at >= 0 && at < first) {
      first = at;
      found = word;
    }
  }
  return found;
}

/** Length of the longest end of `text` that one of `words` begins with, without being all of it. */
function beginning(text: string, words: readonly string[]): number {
  let longest = 0;
  for (const word of words) {
    for (let length = Math.min(word.length - 1, text.length); length > longest; length--) {
      const at = text.length - length;
      if (text.charCodeAt(at) === word.charCodeAt(0) && word.startsWith(text.slice(at))) longest = length;
    }
  }
  return longest;
}

/** Runs `part`; where it ends in a `Mismatch`, what it held is unread. Whether it came to its end. */
export function* tentative(reader: Reader, part: Read<void>): Read<boolean> {
  reader.hold();
  try {
    yield* part;
    reader.release();
    return true;
  } catch (error) {
    if (!(error instanceof Mismatch)) throw error;
    reader.giveBack();
    return false;
  }
}

/** The parser that a machine is, which reads until the text ends. */
export function parserOf(machine: (reader: Reader) => Read<void>): TextParser {
  const reader = new Reader();
  const running = machine(reader);
  return {
    push(text) {
      for (let at = 0; at < text.length; at += MAX_PIECE) {
        reader.feed(text.slice(at, at + MAX_PIECE));
        running.next();
      }
      return reader.take();
    },
    flush() {
      reader.end();
      running.next();
      return reader.take();
    },
  };
}
