import * as z from 'zod';
import { dropNulls } from '../../frontend/drop-nulls.ts';
import { structuredFields } from '../../frontend/grammar/structured-output.ts';
import { parseFields, sharedFields } from '../../frontend/request-fields.ts';
import { MAX_IDS, Priority } from '../../protocol/generate.ts';
import { MAX_TOP_LOGPROBS, TokenId } from '../../protocol/sampling.ts';

/** A part of the body of which every field is known: one that is not, and is not null, is refused by name. */
const section = <T extends z.ZodRawShape>(shape: T) =>
  z.preprocess((value) => dropNulls(value ?? {}), z.strictObject(shape));
const refused = (reason: string) => z.never(reason).optional();

const { temperature, top_p, top_k, min_p, n, presence_penalty, frequency_penalty, repetition_penalty } = sharedFields;
const { stop, min_tokens, ignore_eos, stop_token_ids, include_stop_str_in_output, skip_special_tokens } = sharedFields;
const { use_beam_search, length_penalty } = sharedFields;
const MEDIA = 'models here read and write text only';

const { json, regex, choice, grammar } = structuredFields.structured_outputs.unwrap().shape;

/** What an answer is held to, in vLLM's terms. */
const GuidedDecoding = section({
  ...{ json, regex, choice, grammar },
  // Names a library of other engines.
  backend: z.string().optional(),
  whitespace_pattern: refused('JSON has the blanks that it may have'),
  structural_tag: refused('there are no structural tags here'),
});

/**
 * The body of a request to `generate`: Dynamo 1.4.0's PreprocessedRequest. Its prompt has been through the chat template and the tokenizer, its
 * tools are rendered. Other fields are the frontend's own.
 */
const PreprocessedRequest = z.object({
  token_ids: z.array(TokenId).min(1).max(MAX_IDS),
  stop_conditions: section({
    max_tokens: z.number().int().min(1).optional(),
    stop,
    stop_token_ids,
    /** The model's end tokens, as the frontend read them of the same files. */
    stop_token_ids_hidden: stop_token_ids,
    stop_token_ids_visible: refused('the token that ends an answer is never shown'),
    min_tokens,
    ignore_eos,
    max_thinking_tokens: refused('reasoning has no bound of its own here'),
  }),
  sampling_options: section({
    n,
    best_of: z.number().int().min(1).optional(),
    ...{ temperature, top_p, top_k, min_p, presence_penalty, frequency_penalty, repetition_penalty },
    ...{ use_beam_search, length_penalty, include_stop_str_in_output },
    // Of 64 bits; beyond 2^53 it is rounded, as it is in the OpenAI API here.
    seed: z.preprocess((seed) => (typeof seed === 'bigint' ? Number(seed) : seed), sharedFields.seed),
    guided_decoding: GuidedDecoding.optional(),
  }),
  output_options: section({
    logprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).optional(),
    prompt_logprobs: refused('the answers of Dynamo have no place for them'),
    skip_special_tokens,
    formatted_prompt: refused('the prompt comes as token ids'),
    // The frontend's own.
    return_tokens_as_token_ids: z.boolean().optional(),
  }),
  routing: z.preprocess(
    (value) => dropNulls(value ?? {}),
    z.object({
      dp_rank: z.number().int().min(0).optional(),
      cache_salt: sharedFields.cache_salt,
      // Higher goes first in Dynamo, lower here.
      priority: Priority.transform((priority) => 0 - priority)
        .pipe(Priority)
        .optional(),
      lora_name: refused('LoRA adapters are not served through Dynamo'),
    }),
  ),
  /** What the prefill worker of the same request answered. */
  prefill_result: z.object({ disaggregated_params: z.unknown() }).optional(),
  require_reasoning: z.boolean().optional(),
  prompt_embeds: refused('prompts are token ids here'),
  multi_modal_data: refused(MEDIA),
});
export type PreprocessedRequest = z.infer<typeof PreprocessedRequest>;

/** Throws `ApiError` 400 that names the first field at fault. */
export function parsePreprocessed(body: unknown): PreprocessedRequest {
  return parseFields(PreprocessedRequest, body);
}
