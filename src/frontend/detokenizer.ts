import type { ChatTokenizer } from './tokenizer.ts';

/**
 * Turns the tokens of one choice into text as they come. Never gives half a character: bytes of an unfinished one wait for the next
 * token. The texts given, one after the other, are the UTF-8 decoding of all bytes (invalid ones as U+FFFD), however many tokens it took;
 * each token costs its own bytes only.
 */
export class Detokenizer {
  // ignoreBOM: U+FEFF is a character that a model may say, not a mark to drop.
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #tokenizer: ChatTokenizer;
  readonly #skipSpecial: boolean;
  /** Whether the decoder may hold the beginning of a character. */
  #unfinished = false;
  readonly #shown: ReadonlySet<number>;

  /** `shown`: special tokens that have a text even where special ones are skipped. */
  constructor(tokenizer: ChatTokenizer, skipSpecialTokens: boolean, shown: ReadonlySet<number> = new Set()) {
    this.#tokenizer = tokenizer;
    this.#skipSpecial = skipSpecialTokens;
    this.#shown = shown;
  }

  push(id: number): string {
    const piece = this.#tokenizer.piece(id);
    if (piece.special && this.#skipSpecial && !this.#shown.has(id)) return '';
    const { text } = piece;
    if (text !== null && !this.#unfinished) return text;
    // A text ends whatever came before it, which the decoder has to say.
    this.#unfinished = text === null;
    return this.#decoder.decode(piece.bytes, { stream: true });
  }

  /** The end: U+FFFD where a character stayed unfinished. */
  flush(): string {
    return this.#decoder.decode();
  }
}
