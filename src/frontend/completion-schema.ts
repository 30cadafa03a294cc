import * as z from 'zod';
import { MAX_IDS } from '../protocol/generate.ts';
import { SamplingParams, TokenId } from '../protocol/sampling.ts';
import { checkEmbedsSize } from './embeds/read-embeds.ts';
import { badRequest } from './errors.ts';
import { checkStreaming, MAX_CHOICES, parseFields, sharedFields } from './request-fields.ts';

export const Ids = z.array(TokenId).min(1).max(MAX_IDS);
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

/** Base64, each the file of one tensor. What is in it, and how much, is looked at later. */
const Embeds = z.union(
  [z.string().transform((text): string[] => [text]), z.array(z.string()).min(1).max(MAX_CHOICES)],
  'must be base64 of what torch.save wrote, or a list of such texts',
);

/** The fields of /v1/completions. */
export const CompletionRequest = z.strictObject({
  ...sharedFields,
  // 0 with `echo`: nothing but the prompt.
  max_tokens: z.number().int().min(0).optional(),
  prompt: Prompts.optional(),
  logprobs: SamplingParams.shape.logprobs.unwrap().optional(),
  echo: z.boolean().optional(),
  best_of: z.number().int().min(1).max(MAX_CHOICES).optional(),
  suffix: z.literal('', 'inserting before a suffix is not supported').optional(),
  prompt_embeds: Embeds.optional(),
});
/** With the prompts in the order of their choices: embeddings first, then texts and ids. At least one. */
export type CompletionRequest = z.infer<typeof CompletionRequest> & {
  readonly prompt: readonly PromptInput[];
  readonly prompt_embeds: readonly string[];
};

/**
 * Checks the body of /v1/completions. promptEmbeds: `--enable-prompt-embeds`. Throws `ApiError` 400 that names the field at fault, 413 for
 * more embeddings than a request may bring.
 */
export function parseCompletionRequest(body: unknown, promptEmbeds: boolean): CompletionRequest {
  // vLLM's own words, which clients look for.
  if (
    !promptEmbeds &&
    typeof body === 'object' &&
    body !== null &&
    'prompt_embeds' in body &&
    body.prompt_embeds !== null
  ) {
    throw badRequest('ValueError: You must set --enable-prompt-embeds to input prompt_embeds', 'prompt_embeds');
  }
  const { prompt = [], prompt_embeds: embeds = [], ...rest } = parseFields(CompletionRequest, body);
  // Clients that must send a prompt send an empty one beside embeddings (vLLM's rule).
  const texts = embeds.length > 0 && prompt.length === 1 && prompt[0] === '' ? [] : prompt;
  const request = { ...rest, prompt: texts, prompt_embeds: embeds };
  if (texts.length + embeds.length === 0) throw badRequest("The field 'prompt' is missing.", 'prompt');
  checkStreaming(request);
  checkEmbedsFields(request);
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

function checkEmbedsFields({ prompt_embeds: embeds, echo, prompt_logprobs: scored }: CompletionRequest): void {
  if (embeds.length === 0) return;
  if (echo === true)
    throw badRequest("'echo' needs a text, and 'prompt_embeds' has none: leave one of them out.", 'echo');
  if (scored !== undefined) {
    const message = "'prompt_logprobs' are those of tokens, and 'prompt_embeds' has none: leave one of them out.";
    throw badRequest(message, 'prompt_logprobs');
  }
  checkEmbedsSize(embeds);
}
