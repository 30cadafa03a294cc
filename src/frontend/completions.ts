import type { ServedModel } from './backend.ts';
import { CompletionShape } from './completion-response.ts';
import type { CompletionRequest } from './completion-schema.ts';
import { type EchoedPrompt, echoedPrompt } from './echo.ts';
import { checkChoices, type GenerationPlan, type PlannedPrompt } from './generation.ts';
import { structuredOutput } from './grammar/structured-output.ts';
import { tokenNames } from './logprobs.ts';
import { completionPrompt, embedsPrompt } from './prompt.ts';
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
  const { prompt_embeds: embeds, prompt: texts } = request;
  checkChoices(embeds.length + texts.length, n);
  const output = outputOptions(request, model);
  const heldTo = structuredOutput(request, model);
  const { echo = false, logprobs = null, max_tokens: tokens } = request;
  const prompts: PlannedPrompt[] = [];
  const echoes: EchoedPrompt[] = [];
  const sampling = (promptTokens: number) =>
    samplingParams(
      {
        fields: request,
        // The token without which no node would compute the prompt is dropped from the answer.
        limit: tokens === undefined ? null : { tokens: Math.max(tokens, 1), field: 'max_tokens' },
        defaultLimit: DEFAULT_MAX_TOKENS,
        logprobs,
        promptLogprobs: request.prompt_logprobs ?? (echo ? logprobs : null),
      },
      model,
      promptTokens,
      drawSeed,
    );
  // Reading long embeddings and tokenizing long texts takes long: others have their turn in between.
  const turn = async () => {
    if (prompts.length > 0) await new Promise((resolve) => setTimeout(resolve));
  };
  for (const [at, text] of embeds.entries()) {
    await turn();
    const prompt = embedsPrompt(text, embeds.length === 1 ? 'prompt_embeds' : `prompt_embeds[${at}]`, request, model);
    prompts.push({ ...prompt, sampling: sampling(prompt.ids.length) });
  }
  for (const prompt of texts) {
    await turn();
    const ids = completionPrompt(prompt, request, model);
    prompts.push({ ids, sampling: sampling(ids.length) });
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
      heldTo,
    },
    shape: new CompletionShape({
      head,
      names: tokenNames(model.tokenizer, request.return_tokens_as_token_ids ?? false),
      logprobs: request.logprobs !== undefined,
      includeUsage: request.stream_options?.include_usage ?? false,
      // Without a tokenizer the ids are the whole answer.
      returnTokenIds: request.return_token_ids ?? model.tokenizer === null,
      prompts: prompts.map((prompt) => (prompt.embeds === undefined ? prompt.ids : [])),
      echoes: echo ? echoes : null,
      n,
    }),
  };
}
