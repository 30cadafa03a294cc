/** Most whitespace that is held. */
const MAX_HELD = 256;

/** Holds the whitespace at the end of a text back until something else follows. */
export class HeldSpace {
  #held = '';

  /** What may be given away of the text so far. */
  push(text: string): string {
    const all = this.#held + text;
    const length = Math.max(all.trimEnd().length, all.length - MAX_HELD);
    this.#held = all.slice(length);
    return all.slice(0, length);
  }

  /** What is held, which is forgotten. */
  take(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }
}
