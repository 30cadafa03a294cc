import * as z from 'zod';
import { MAX_DIMENSIONS } from '../protocol/pooling.ts';
import { Ids, type PromptInput } from './completion-schema.ts';
import { refused } from './refused-fields.ts';
import { parseFields, sharedFields } from './request-fields.ts';

/** Most inputs of one request (OpenAI's). */
const MAX_INPUTS = 2048;

const Input = z
  .union(
    [
      z.string().transform((text): PromptInput[] => [text]),
      Ids.transform((ids): PromptInput[] => [ids]),
      z.array(z.string()).min(1),
      z.array(Ids).min(1),
    ],
    'must be a string, a list of strings, a list of token ids, or a list of such lists',
  )
  .refine((inputs) => inputs.length <= MAX_INPUTS, `has more than ${MAX_INPUTS} inputs`);

/** The fields of /v1/embeddings: OpenAI's, then vLLM's. */
export const EmbeddingRequest = z.strictObject({
  model: sharedFields.model,
  input: Input,
  encoding_format: z.enum(['float', 'base64']).optional(),
  dimensions: z.number().int().min(1).max(MAX_DIMENSIONS).optional(),
  user: sharedFields.user,

  truncate_prompt_tokens: sharedFields.truncate_prompt_tokens,
  add_special_tokens: sharedFields.add_special_tokens,
  use_activation: z.boolean().optional(),
  priority: sharedFields.priority,
  cache_salt: sharedFields.cache_salt,

  messages: refused('embeddings are made of texts; send input'),
  embed_dtype: z.literal('float32', 'embeddings are float32').optional(),
  endianness: z.enum(['native', 'little'], 'base64 is of little-endian numbers').optional(),
  request_id: sharedFields.request_id,
});
export type EmbeddingRequest = z.infer<typeof EmbeddingRequest>;

/** Checks the body of /v1/embeddings. Throws `ApiError` 400 that names the field at fault. */
export function parseEmbeddingRequest(body: unknown): EmbeddingRequest {
  return parseFields(EmbeddingRequest, body);
}
