import * as z from 'zod';

/** Most drafts of a sequence in one step, and most tokens that are looked up; beyond, nothing is won. */
const MAX_TOKENS = 32;
/** vLLM's, where neither bound of the lookup is given. */
const LOOKUP = 5;

const tokens = z.number().int().min(1).max(MAX_TOKENS);

/** vLLM's `--speculative-config`: prompt lookup, by vLLM's names. */
export const SpeculativeConfig = z
  .strictObject({
    method: z.literal('ngram', { error: 'expected "ngram" (prompt lookup), the one method there is' }),
    /** Drafts of a sequence in one step. */
    num_speculative_tokens: tokens,
    /** Most and fewest tokens at the end of a sequence that are looked up in it; one alone stands for both. */
    prompt_lookup_max: tokens.optional(),
    prompt_lookup_min: tokens.optional(),
  })
  .refine((c) => (c.prompt_lookup_min ?? 0) <= (c.prompt_lookup_max ?? MAX_TOKENS), {
    path: ['prompt_lookup_min'],
    error: 'expected at most prompt_lookup_max',
  });
export type SpeculativeConfig = z.infer<typeof SpeculativeConfig>;

/** What of it engines need. */
export interface Speculation {
  /** Most drafts of a sequence in one step. */
  readonly drafts: number;
  /** Fewest and most tokens that are looked up. */
  readonly lookup: { readonly min: number; readonly max: number };
}

/** null: off. */
export function speculationOf(config: SpeculativeConfig | null): Speculation | null {
  if (config === null) return null;
  const { num_speculative_tokens: drafts, prompt_lookup_min: min, prompt_lookup_max: max } = config;
  return { drafts, lookup: { min: min ?? max ?? LOOKUP, max: max ?? min ?? LOOKUP } };
}
