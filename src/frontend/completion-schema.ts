import * as z from 'zod';
import { MAX_IDS } from '../protocol/generate.ts';
import { SamplingParams, TokenId } from '../protocol/sampling.ts';
import { MAX_CHOICES, parseFields, sharedFields } from './request-fields.ts';

const Ids = z.array(TokenId).min(1).max(MAX_IDS);
/** One prompt: its text, or its token ids. */
export type PromptInput = string | number[];

const Prompts = z.union([
  z.string().transform((text): PromptInput[] => [text]),
  Ids.transform((ids): PromptInput[] => [ids]),
  z.array(z.string()).min(1).max(MAX_CHOICES),
  z.array(Ids).min(1).max(MAX_CHOICES),
]);

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
  return parseFields(CompletionRequest, body);
}
