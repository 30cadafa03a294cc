import type { OutputToken } from './choice-stream.ts';
import type { ChatTokenizer } from './tokenizer.ts';

export interface ThoughtTokens {
  /** Ids of the marks; what a parser takes for a mark is one of these tokens. */
  readonly starts: ReadonlySet<number>;
  readonly ends: ReadonlySet<number>;
  /** Whether the answer begins inside of its reasoning. */
  readonly begun: boolean;
}

/** Counts the tokens of a choice's reasoning, its marks left out: `completion_tokens_details.reasoning_tokens`. */
export class ReasoningTokens {
  readonly #marks: ThoughtTokens;
  readonly #tokenizer: ChatTokenizer;
  #state: 'before' | 'inside' | 'after';
  count = 0;

  constructor(marks: ThoughtTokens, tokenizer: ChatTokenizer) {
    this.#marks = marks;
    this.#tokenizer = tokenizer;
    this.#state = marks.begun ? 'inside' : 'before';
  }

  push(tokens: readonly OutputToken[]): void {
    for (const { id } of tokens) {
      if (this.#state === 'after') return;
      if (this.#marks.starts.has(id)) this.#state = 'inside';
      else if (this.#marks.ends.has(id)) this.#state = 'after';
      else if (this.#state === 'inside') this.count++;
      else if (!isSpace(this.#tokenizer.piece(id).bytes)) this.#state = 'after';
    }
  }
}

const isSpace = (bytes: Uint8Array) => bytes.every((byte) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d));
