import * as z from 'zod';

/** Most ids that end a sequence; the GPU keeps them in a slot of fixed size. */
export const MAX_STOP_IDS = 64;
/** Most entries of one `logit_bias`; the GPU keeps them in a slot of fixed size. */
export const MAX_LOGIT_BIAS = 1024;
/** Most `top_logprobs` (OpenAI's own bound). */
export const MAX_TOP_LOGPROBS = 20;

const u32 = z.number().int().min(0).max(0xffffffff);
export const TokenId = u32;

/**
 * How one request's tokens are chosen. Names and meaning are vLLM's SamplingParams; every field is set:
 * defaults (the model's generation_config, a drawn seed) are filled in by the frontend, never by an engine.
 */
export const SamplingParams = z.object({
  /** 0 = greedy. */
  temperature: z.number().min(0).max(100),
  /** 1 = off. */
  topP: z.number().gt(0).max(1),
  /** 0 = off. */
  topK: z.number().int().min(0),
  /** 0 = off. */
  minP: z.number().min(0).max(1),
  /** 1 = off. */
  repetitionPenalty: z.number().gt(0).max(100),
  presencePenalty: z.number().min(-2).max(2),
  frequencyPenalty: z.number().min(-2).max(2),
  logitBias: z.array(z.tuple([TokenId, z.number().min(-100).max(100)])).max(MAX_LOGIT_BIAS),
  /** 64-bit seed as [low, high]. With choice and offset it keys the RNG of every draw. */
  seed: z.tuple([u32, u32]),
  /** No stop id is sampled before this many tokens of the choice. */
  minTokens: z.number().int().min(0),
  /** Most tokens of the choice; the frontend has clamped it to the context. */
  maxTokens: z.number().int().min(1),
  /** Ids that end the choice: the model's EOS ids (unless `ignore_eos`) and `stop_token_ids`. */
  stopIds: z.array(TokenId).max(MAX_STOP_IDS),
  /** How many top logprobs beside the sampled token's own; null = no logprobs at all. */
  logprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).nullable(),
  /** The same for the prompt's tokens. */
  promptLogprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).nullable(),
});
export type SamplingParams = z.infer<typeof SamplingParams>;

/** Greedy, unbounded by penalties: the base that tests and the self-test vary. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: [0, 0],
  minTokens: 0,
  maxTokens: 16,
  stopIds: [],
  logprobs: null,
  promptLogprobs: null,
};
