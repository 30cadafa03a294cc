import type { EngineError } from './api.ts';

/** One sequence that is to be held to a grammar. */
export interface GrammarWish {
  /** EBNF, as `GenerateRequest.grammar`. */
  readonly grammar: string;
  /** Tokens that earlier attempts gave, oldest first. */
  readonly generated: readonly number[];
  /** `SamplingParams.stopIds`; those that stand for no text are allowed where the grammar can end, and nowhere else. */
  readonly stopIds: readonly number[];
}

/** What a match tells. Never called within `open` or `accept`, and not after `close`. */
export interface GrammarListener {
  /** The ids allowed next, as in the table `masks`: told once after `open` and once after each `accept`. At least one is. */
  mask(mask: Uint32Array<ArrayBuffer>): void;
  /** `invalid_request`: the grammar can never be matched; `overloaded`: not here, not now. Nothing more comes. */
  failed(error: EngineError): void;
}

/** Where one sequence is in its grammar. */
export interface GrammarMatch {
  /** The token that was sampled under the last mask. */
  accept(token: number): void;
  /** Ends it; more calls do nothing. */
  close(): void;
}

/** Says which tokens may come next in sequences under a grammar. It works beside the engine: nothing here makes a step wait. */
export interface GrammarMatcher {
  open(wish: GrammarWish, listener: GrammarListener): GrammarMatch;
}
