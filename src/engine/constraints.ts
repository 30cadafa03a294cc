import { EngineError } from './api.ts';
import type { GrammarMatch, GrammarMatcher } from './grammar.ts';
import type { Sequence } from './sequence.ts';

/** The sequences of an engine that are held to grammars: each gets its masks, and tells its tokens, until it is forgotten. */
export class Constraints {
  readonly #matches = new Map<Sequence, GrammarMatch>();

  constructor(
    /** null where no grammars are matched. */
    private readonly matcher: GrammarMatcher | null,
    /** Masks came: there may be more to compute. */
    private readonly wake: () => void,
    /** The grammar of a request cannot be matched. */
    private readonly failed: (request: string, error: EngineError) => void,
  ) {}

  /** Throws `EngineError` code `invalid_request` for a grammar where none is matched. */
  check(grammar: string | undefined): void {
    if (grammar !== undefined && this.matcher === null)
      throw new EngineError('invalid_request', 'This engine matches no grammars. Ask without structured output.');
  }

  begin(sequences: readonly Sequence[], grammar: string | undefined): void {
    if (grammar === undefined || this.matcher === null) return;
    for (const sequence of sequences) {
      const { request, promptLength, tokens, sampling } = sequence;
      const wish = { grammar, generated: tokens.slice(promptLength), stopIds: sampling.stopIds };
      const match = this.matcher.open(wish, {
        mask: (mask) => {
          sequence.mask = mask;
          this.wake();
        },
        failed: (error) => this.failed(request, error),
      });
      this.#matches.set(sequence, match);
    }
  }

  /** Tokens that a sequence sampled and goes on after. */
  accept(sequence: Sequence, tokens: readonly number[]): void {
    const match = this.#matches.get(sequence);
    for (const token of tokens) match?.accept(token);
  }

  forget(sequence: Sequence): void {
    this.#matches.get(sequence)?.close();
    this.#matches.delete(sequence);
  }

  end(): void {
    for (const sequence of [...this.#matches.keys()]) this.forget(sequence);
  }
}
