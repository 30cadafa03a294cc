import * as z from 'zod';
import { MAX_IDS } from '../protocol/generate.ts';
import { SamplingParams, TokenId } from '../protocol/sampling.ts';
import { badRequest } from './errors.ts';
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

const CompletionRequest = z.strictObject({
  ...sharedFields,
  prompt: Prompts,
  logprobs: SamplingParams.shape.logprobs.unwrap().optional(),
  echo: z.literal(false, 'the prompt cannot be echoed here: leave it out or send false').optional(),
  best_of: z.literal(1, 'only 1 is supported: use n for several choices').optional(),
  suffix: z.literal('', 'inserting before a suffix is not supported').optional(),
  response_format: z.strictObject({ type: z.literal('text', 'only {"type": "text"} is supported') }).optional(),
});
export type CompletionRequest = z.infer<typeof CompletionRequest>;

/** Checks the body of /v1/completions. Throws `ApiError` 400 that names the field at fault. */
export function parseCompletionRequest(body: unknown): CompletionRequest {
  // vLLM's own words, which clients look for.
  if (typeof body === 'object' && body !== null && 'prompt_embeds' in body) {
    throw badRequest('ValueError: You must set --enable-prompt-embeds to input prompt_embeds', 'prompt_embeds');
  }
  return parseFields(CompletionRequest, body);
}
