export interface StopMatch {
  /** What may be shown now. */
  readonly text: string;
  /** The stop string that ended the text, once one has. */
  readonly stop: string | null;
}

/**
 * Finds stop strings in a text that comes in pieces. Text that may yet turn out to begin a stop string is held back; nothing else is.
 * The stop string that is complete first wins, of two that end together the longer one; so the result does not depend on how the text
 * was cut. Knuth-Morris-Pratt over UTF-16 units, one automaton a stop string: linear in the text, constant memory.
 */
export class StopStrings {
  readonly #stops: readonly { readonly text: string; readonly failure: Uint16Array }[];
  readonly #matched: Uint16Array;
  readonly #include: boolean;
  #held = '';

  /** `stops`: none empty, each at most 65,535 units. `include`: a found stop string is part of the text. */
  constructor(stops: readonly string[], include: boolean) {
    this.#stops = [...stops].sort((a, b) => b.length - a.length).map((text) => ({ text, failure: failureTable(text) }));
    this.#matched = new Uint16Array(stops.length);
    this.#include = include;
  }

  /** Takes the next piece. With `mayStop` false (before `min_tokens`) a stop string that ends inside of it does not count. */
  push(piece: string, mayStop: boolean): StopMatch {
    if (this.#stops.length === 0) return { text: piece, stop: null };
    const text = this.#held + piece;
    for (let at = this.#held.length; at < text.length; at++) {
      const found = this.#step(text[at] as string);
      if (found === null || !mayStop) continue;
      this.#held = '';
      const end = at + 1;
      return { text: text.slice(0, this.#include ? end : end - found.length), stop: found };
    }
    const keep = Math.max(...this.#matched);
    this.#held = text.slice(text.length - keep);
    return { text: text.slice(0, text.length - keep), stop: null };
  }

  /** The text has ended: what was held back was no stop string. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  /** Moves all automata by one unit; returns the longest stop string that is complete with it. */
  #step(unit: string): string | null {
    let found: string | null = null;
    for (const [i, { text, failure }] of this.#stops.entries()) {
      let matched = this.#matched[i] as number;
      while (matched > 0 && text[matched] !== unit) matched = failure[matched - 1] as number;
      if (text[matched] === unit) matched++;
      if (matched === text.length) {
        found ??= text;
        matched = failure[matched - 1] as number;
      }
      this.#matched[i] = matched;
    }
    return found;
  }
}

/** failure[i]: length of the longest proper prefix of `text` that is also a suffix of its first i + 1 units. */
function failureTable(text: string): Uint16Array {
  const failure = new Uint16Array(text.length);
  for (let i = 1, matched = 0; i < text.length; i++) {
    while (matched > 0 && text[i] !== text[matched]) matched = failure[matched - 1] as number;
    if (text[i] === text[matched]) matched++;
    failure[i] = matched;
  }
  return failure;
}
