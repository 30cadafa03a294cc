import * as z from 'zod';
import { MAX_IDS } from '../protocol/generate.ts';
import { SamplingParams, TokenId } from '../protocol/sampling.ts';
import { badRequest } from './errors.ts';
import { refusedCompletionFields } from './refused-fields.ts';
import { MAX_CHOICES, parseFields, sharedFields } from './request-fields.ts';

const Ids = z.array(TokenId).min(1).max(MAX_IDS);
/** One prompt: its text, or its token ids. */
export type PromptInput = string | number[];

const Prompts = z.union(
  [
    z.string().transform((text): PromptInput[] => [text]),
    Ids.transform((ids): PromptInput[] => [ids]),
    z.array(z.string()).min(1).max(MAX_CHOICES),
    z.array(Ids).min(1).max(MAX_CHOICES),
  ],
  'must be a string, a list of strings, a list of token ids, or a list of such lists',
);

/** The fields of /v1/completions. */
export const CompletionRequest = z.strictObject({
  ...sharedFields,
  // 0 with `echo`: nothing but the prompt.
  max_tokens: z.number().int().min(0).optional(),
  prompt: Prompts,
  logprobs: SamplingParams.shape.logprobs.unwrap().optional(),
  echo: z.boolean().optional(),
  best_of: z.number().int().min(1).max(MAX_CHOICES).optional(),
  suffix: z.literal('', 'inserting before a suffix is not supported').optional(),
  response_format: z.strictObject({ type: z.literal('text', 'only {"type": "text"} is supported') }).optional(),
  ...refusedCompletionFields,
});
export type CompletionRequest = z.infer<typeof CompletionRequest>;

/** Checks the body of /v1/completions. Throws `ApiError` 400 that names the field at fault. */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  // vLLM's own words, which clients look for.
  if (typeof body === 'object' && body !== null && 'prompt_embeds' in body && body.prompt_embeds !== null) {
    throw badRequest('ValueError: You must set --enable-prompt-embeds to input prompt_embeds', 'prompt_embeds');
  }
  const request = parseFields(CompletionRequest, body);
  const { best_of: bestOf, n = 1 } = request;
  if (bestOf !== undefined && bestOf !== n) {
    throw badRequest(
      `'best_of' (${bestOf}) must be 'n' (${n}): choices are not ranked here, all that are computed are answered.`,
      'best_of',
    );
  }
  if (request.max_tokens === 0 && request.echo !== true) {
    throw badRequest("'max_tokens' must be at least 1; 0 needs 'echo': true, for the prompt alone.", 'max_tokens');
  }
  return request;
}
