import type { HeldTo } from '../protocol/generate.ts';
import type { ServedModel } from './backend.ts';
import { type ChatReading, chatReading } from './chat-reading.ts';
import { ChatShape } from './chat-response.ts';
import type { ChatRequest } from './chat-schema.ts';
import type { GenerationPlan } from './generation.ts';
import { forcedCallsGrammar } from './grammar/forced-calls.ts';
import { structuredOutput } from './grammar/structured-output.ts';
import { tokenNames } from './logprobs.ts';
import { chatPrompt } from './prompt.ts';
import type { ResponseHead } from './response.ts';
import { outputOptions, samplingParams } from './sampling-params.ts';
import type { Plan } from './serve.ts';

/** What a chat request computes and how its answer is written. Throws `ApiError` 400. */
export function planChat(
  request: ChatRequest,
  model: ServedModel,
  head: ResponseHead,
  drawSeed: () => [number, number],
): Plan {
  const { plan, reading, promptIds } = chatPlan(request, model, head.id, drawSeed);
  const shape = new ChatShape({
    head,
    reading,
    names: tokenNames(model.tokenizer, request.return_tokens_as_token_ids ?? false),
    logprobs: request.logprobs ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    promptIds: request.return_token_ids === true ? promptIds : null,
  });
  return { plan, shape };
}

/** What a chat computes and how its text is read, for whichever API asks. Throws `ApiError` 400 that names fields of `ChatRequest`. */
export function chatPlan(
  request: ChatRequest,
  model: ServedModel,
  id: string,
  drawSeed: () => [number, number],
): { readonly plan: GenerationPlan; readonly reading: ChatReading; readonly promptIds: readonly number[] } {
  const { text, ids } = chatPrompt(request, model);
  const held = chatGrammar(request, model);
  const reading = chatReading(request, text, model, held.grammar !== undefined);
  const field = request.max_completion_tokens === undefined ? 'max_tokens' : 'max_completion_tokens';
  const tokens = request[field];
  const sampling = samplingParams(
    {
      fields: request,
      limit: tokens === undefined ? null : { tokens, field },
      defaultLimit: null,
      logprobs: request.logprobs === true ? (request.top_logprobs ?? 0) : null,
      promptLogprobs: request.prompt_logprobs ?? null,
    },
    model,
    ids.length,
    drawSeed,
  );
  return {
    plan: {
      id,
      model,
      prompts: [{ ids, sampling }],
      n: request.n ?? 1,
      output: { ...outputOptions(request, model), shownTokenIds: reading.shownTokenIds },
      cacheSalt: request.cache_salt,
      priority: request.priority,
      heldTo: held.grammar === undefined || reading.thought === null ? held : { ...held, thought: reading.thought },
    },
    reading,
    promptIds: ids,
  };
}

/** What the answer is held to: calls that are forced, or what the request says it must be. Throws `ApiError` 400. */
function chatGrammar(request: ChatRequest, model: ServedModel): HeldTo {
  const { tools = [], tool_choice: choice = 'auto', parallel_tool_calls: parallel = true } = request;
  const field = 'tool_choice';
  if (choice === 'auto' || choice === 'none') return structuredOutput(request, model);
  return structuredOutput(request, model, {
    field,
    grammar: () => forcedCallsGrammar(tools, choice === 'required' ? null : choice.function.name, parallel),
  });
}
