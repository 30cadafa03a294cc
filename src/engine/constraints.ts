import type { GenerateRequest } from '../protocol/generate.ts';
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

  /** For sequences of this request that begin, or go on. */
  begin(sequences: readonly Sequence[], { grammar, grammarEnds = [] }: GenerateRequest): void {
    if (grammar === undefined || this.matcher === null) return;
    for (const sequence of sequences) {
      const { request, tokens, sampling, constraint } = sequence;
      if (constraint === null || constraint.over) continue;
      const wish = {
        grammar,
        generated: tokens.slice(tokens.length - constraint.length),
        stopIds: [...sampling.stopIds, ...grammarEnds],
      };
      const match = this.matcher.open(wish, {
        mask: (mask) => {
          constraint.mask = mask;
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
    const { constraint } = sequence;
    if (match === undefined || constraint === null) return;
    if (constraint.over) this.forget(sequence);
    else for (const token of tokens.slice(Math.max(0, tokens.length - constraint.length))) match.accept(token);
  }

  forget(sequence: Sequence): void {
    this.#matches.get(sequence)?.close();
    this.#matches.delete(sequence);
  }

  end(): void {
    for (const sequence of [...this.#matches.keys()]) this.forget(sequence);
  }
}
