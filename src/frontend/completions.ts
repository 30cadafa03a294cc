import type { SamplingParams } from '../protocol/sampling.ts';
import type { ServedModel } from './backend.ts';
import { CompletionShape } from './completion-response.ts';
import type { CompletionRequest } from './completion-schema.ts';
import { type EchoedPrompt, echoedPrompt } from './echo.ts';
import { checkChoices, type GenerationPlan } from './generation.ts';
import { tokenNames } from './logprobs.ts';
import { completionPrompt } from './prompt.ts';
import type { ResponseHead, ResponseShape } from './response.ts';
import { outputOptions, samplingParams } from './sampling-params.ts';

/** `max_tokens` of /v1/completions where it is left out (OpenAI's and vLLM's). */
const DEFAULT_MAX_TOKENS = 16;

/** What a completion request computes and how its answer is written. Rejects with `ApiError` 400. */
export async function planCompletion(
  request: CompletionRequest,
  model: ServedModel,
  head: ResponseHead,
  drawSeed: () => [number, number],
): Promise<{ plan: GenerationPlan; shape: ResponseShape }> {
  const n = request.n ?? 1;
  checkChoices(request.prompt.length, n);
  const output = outputOptions(request, model);
  const { echo = false, logprobs = null, max_tokens: tokens } = request;
  const prompts: { ids: number[]; sampling: SamplingParams }[] = [];
  const echoes: EchoedPrompt[] = [];
  for (const prompt of request.prompt) {
    // Tokenizing many long texts takes seconds: others have their turn in between.
    if (prompts.length > 0) await new Promise((resolve) => setTimeout(resolve));
    const ids = completionPrompt(prompt, request, model);
    const sampling = samplingParams(
      {
        fields: request,
        // The token without which no node would compute the prompt is dropped from the answer.
        limit: tokens === undefined ? null : { tokens: Math.max(tokens, 1), field: 'max_tokens' },
        defaultLimit: DEFAULT_MAX_TOKENS,
        logprobs,
        promptLogprobs: request.prompt_logprobs ?? (echo ? logprobs : null),
      },
      model,
      ids.length,
      drawSeed,
    );
    prompts.push({ ids, sampling });
    if (echo)
      echoes.push(echoedPrompt(request.truncate_prompt_tokens === undefined ? prompt : ids, ids, model.tokenizer));
  }
  return {
    plan: {
      id: head.id,
      model,
      prompts,
      n,
      output,
      cacheSalt: request.cache_salt,
      priority: request.priority,
    },
    shape: new CompletionShape({
      head,
      names: tokenNames(model.tokenizer, request.return_tokens_as_token_ids ?? false),
      logprobs: request.logprobs !== undefined,
      includeUsage: request.stream_options?.include_usage ?? false,
      // Without a tokenizer the ids are the whole answer.
      returnTokenIds: request.return_token_ids ?? model.tokenizer === null,
      prompts: prompts.map((prompt) => prompt.ids),
      echoes: echo ? echoes : null,
      n,
    }),
  };
}
