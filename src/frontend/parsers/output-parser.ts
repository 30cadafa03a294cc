import type { ParserEvent, TextParser } from './events.ts';
import { HeldSpace } from './held-space.ts';

export interface OutputParserOptions {
  readonly thought: TextParser | null;
  /** false = reasoning is dropped. */
  readonly showThought: boolean;
  /** null = calls are text. */
  readonly calls: TextParser | null;
  /** false = calls after the first are dropped, as vLLM does for `parallel_tool_calls: false`. */
  readonly parallel: boolean;
}

/** Parts the text of one answer into reasoning, calls and what is left. Calls inside of reasoning are reasoning. */
export class OutputParser {
  readonly #options: OutputParserOptions;
  readonly #space = new HeldSpace();
  #saidText = false;
  #calls = 0;
  #ended = 0;

  constructor(options: OutputParserOptions) {
    this.#options = options;
  }

  /** Whether there are calls, each of them whole; dropped ones do not count. */
  get called(): boolean {
    return this.#ended > 0 && this.#ended === (this.#options.parallel ? this.#calls : 1);
  }

  push(text: string): ParserEvent[] {
    const { thought } = this.#options;
    const parts = thought === null ? [{ type: 'text' as const, text }] : thought.push(text);
    return parts.flatMap((part) => this.#answer(part));
  }

  /** The text has ended. */
  flush(): ParserEvent[] {
    const { thought, calls } = this.#options;
    const found = (thought?.flush() ?? []).flatMap((part) => this.#answer(part));
    if (calls === null) return found;
    found.push(...this.#kept(calls.flush()));
    const space = this.#space.take();
    return this.#calls === 0 && space !== '' ? [...found, { type: 'text', text: space }] : found;
  }

  #answer(part: ParserEvent): ParserEvent[] {
    const { calls, showThought } = this.#options;
    if (part.type === 'text') return calls === null ? [part] : this.#kept(calls.push(part.text));
    return showThought ? [part] : [];
  }

  #kept(events: readonly ParserEvent[]): ParserEvent[] {
    return events.flatMap((event) => {
      if (event.type === 'text') return this.#text(event.text);
      if (event.type === 'call') this.#calls++;
      if (!this.#options.parallel && this.#calls > 1) return [];
      if (event.type === 'call_end') this.#ended++;
      return [event];
    });
  }

  /** Whitespace alone before and after calls is no text. */
  #text(piece: string): ParserEvent[] {
    let text = this.#space.push(piece);
    if (!this.#saidText && this.#calls > 0) text = text.trimStart();
    if (text === '') return [];
    this.#saidText = true;
    return [{ type: 'text', text }];
  }
}
