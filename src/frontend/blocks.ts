import type { OutputParser } from './parsers/output-parser.ts';

/** A part of an answer. Parts follow each other and never mix. */
export type Block = { readonly type: 'reasoning' | 'text' } | { readonly type: 'call'; readonly name: string };

export type BlockEvent =
  | { readonly type: 'open'; readonly block: Block }
  /** The next piece of its text: of a call, of its arguments. */
  | { readonly type: 'delta'; readonly text: string }
  /** `whole`: no text of it is missing, as far as is known: where the answer was cut, its last part is not. */
  | { readonly type: 'close'; readonly whole: boolean };

/** One answer as a sequence of parts: what APIs give that tell reasoning, text and calls in their order. */
export class Blocks {
  readonly #parser: OutputParser;
  #open: Block['type'] | null = null;
  /** Whether the part before was a call: whitespace between it and a text is of neither. */
  #afterCall = false;

  constructor(parser: OutputParser) {
    this.#parser = parser;
  }

  /** Whether the answer called, and each call is whole. */
  get called(): boolean {
    return this.#parser.called;
  }

  /** What `text` adds. `end`: no more text comes, because the answer ended by itself or was cut. */
  *push(text: string, end: 'whole' | 'cut' | null): Generator<BlockEvent> {
    const events = this.#parser.push(text);
    if (end !== null) events.push(...this.#parser.flush());
    for (const event of events) {
      switch (event.type) {
        case 'text':
        case 'reasoning':
          yield* this.#text(event.type, event.text);
          break;
        case 'call':
          yield* this.#begin({ type: 'call', name: event.name });
          break;
        case 'arguments':
          if (event.text !== '') yield { type: 'delta', text: event.text };
          break;
        case 'call_end':
          yield* this.#close(true);
      }
    }
    if (end !== null) yield* this.#close(end === 'whole');
  }

  *#text(type: 'text' | 'reasoning', piece: string): Generator<BlockEvent> {
    const text = this.#open !== type && this.#afterCall ? piece.trimStart() : piece;
    if (text === '') return;
    if (this.#open !== type) yield* this.#begin({ type });
    yield { type: 'delta', text };
  }

  *#begin(block: Block): Generator<BlockEvent> {
    // A call that is whole was closed by its end.
    yield* this.#close(this.#open !== 'call');
    this.#open = block.type;
    yield { type: 'open', block };
  }

  *#close(whole: boolean): Generator<BlockEvent> {
    if (this.#open === null) return;
    this.#afterCall = this.#open === 'call';
    this.#open = null;
    yield { type: 'close', whole };
  }
}
