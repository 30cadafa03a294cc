import * as z from 'zod';
import type { SamplingParams } from './sampling.ts';
import { TokenId } from './sampling.ts';

/** Most end-of-sequence ids of one model; leaves room for a request's own among `MAX_STOP_IDS`. */
const MAX_EOS_IDS = 32;

/** One id, a list, or none: how HF configs spell `eos_token_id`. */
export const EosTokenIds = z
  .union([TokenId.transform((id) => [id]), z.array(TokenId).max(MAX_EOS_IDS)])
  .nullish()
  .transform((ids) => ids ?? []);

/** The fields of HF's `generation_config.json` that vLLM reads; others are ignored. */
export const GenerationConfig = z.looseObject({
  eos_token_id: EosTokenIds,
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.number().int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().gt(0).max(100).nullish(),
  max_new_tokens: z.number().int().min(1).nullish(),
});

/** Default sampling that a model asks for; absent fields keep the API's own defaults. */
export type GenerationDefaults = {
  -readonly [K in 'temperature' | 'topP' | 'topK' | 'minP' | 'repetitionPenalty' | 'maxTokens']?: SamplingParams[K];
};

/**
 * Default sampling from a `generation_config.json`, as vLLM's `--generation-config auto` reads it
 * (`ModelConfig.get_diff_sampling_param`): repetition_penalty, temperature, top_k, top_p, min_p and max_new_tokens.
 * `do_sample` is not read, there as here: a model is greedy only where its temperature says 0. `top_k` -1 means off.
 * Throws an `Error` that names the wrong fields.
 */
export function generationDefaults(generationConfig: unknown): GenerationDefaults {
  const result = GenerationConfig.safeParse(generationConfig ?? {});
  if (!result.success) {
    const words = result.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join('; ');
    throw new Error(
      `generation_config.json: ${words}. Correct it, or start with --generation-config vllm to ignore it.`,
    );
  }
  const c = result.data;
  const defaults: GenerationDefaults = {};
  if (c.temperature != null) defaults.temperature = c.temperature;
  if (c.top_p != null) defaults.topP = c.top_p;
  if (c.top_k != null) defaults.topK = Math.max(0, c.top_k);
  if (c.min_p != null) defaults.minP = c.min_p;
  if (c.repetition_penalty != null) defaults.repetitionPenalty = c.repetition_penalty;
  if (c.max_new_tokens != null) defaults.maxTokens = c.max_new_tokens;
  return defaults;
}
