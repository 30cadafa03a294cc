/** OpenAI's usage object. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

/** Counts of one request. A prompt counts once however many choices it has; several prompts are summed. */
export class Tally {
  completionTokens = 0;
  cachedTokens = 0;

  constructor(readonly promptTokens: number) {}

  usage(): Usage {
    return {
      prompt_tokens: this.promptTokens,
      completion_tokens: this.completionTokens,
      total_tokens: this.promptTokens + this.completionTokens,
      prompt_tokens_details: { cached_tokens: this.cachedTokens },
    };
  }
}
