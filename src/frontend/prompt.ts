import type { ServedModel } from './backend.ts';
import type { ChatRequest } from './chat-schema.ts';
import type { PromptInput } from './completion-schema.ts';
import { badRequest } from './errors.ts';
import { knownId } from './sampling-params.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** The token ids of a chat's prompt. Throws `ApiError` 400. */
export function chatPrompt(request: ChatRequest, model: ServedModel): number[] {
  const tokenizer = needTokenizer(model, 'messages', 'Send token ids to /v1/completions.');
  const text = tokenizer.render({
    messages: request.messages,
    // With `tool_choice: none` the model is not told of its tools: that alone keeps it from calling them.
    tools:
      request.tools !== undefined && request.tools.length > 0 && request.tool_choice !== 'none' ? request.tools : null,
    addGenerationPrompt: request.add_generation_prompt ?? true,
    kwargs: request.chat_template_kwargs ?? {},
  });
  // The template writes BOS itself (vLLM's default).
  return encode(tokenizer, text, request.add_special_tokens ?? false, model, 'messages');
}

/** The token ids of one prompt of /v1/completions. Throws `ApiError` 400. */
export function completionPrompt(prompt: PromptInput, addSpecialTokens: boolean, model: ServedModel): number[] {
  if (typeof prompt !== 'string') return prompt.map((id) => knownId(id, model, 'prompt'));
  const tokenizer = needTokenizer(model, 'prompt', 'Send token ids.');
  return encode(tokenizer, prompt, addSpecialTokens, model, 'prompt');
}

function needTokenizer(model: ServedModel, field: string, instead: string): ChatTokenizer {
  if (model.tokenizer !== null) return model.tokenizer;
  throw badRequest(
    `This server runs without a tokenizer (--skip-tokenizer-init) and cannot read text. ${instead}`,
    field,
  );
}

function encode(
  tokenizer: ChatTokenizer,
  text: string,
  addSpecialTokens: boolean,
  model: ServedModel,
  field: string,
): number[] {
  // Tokenizing is the costly part: a text that can't fit is refused before it.
  const context = model.maxModelLen();
  const atLeast = Math.ceil(text.length / tokenizer.longestPiece);
  if (atLeast > context) {
    throw badRequest(
      `This model's maximum context length is ${context} tokens, and the prompt has at least ${atLeast}. Shorten the prompt.`,
      field,
      'context_length_exceeded',
    );
  }
  const ids = tokenizer.encode(text, addSpecialTokens);
  if (ids.length === 0) throw badRequest(`The prompt is empty: send at least one token.`, field);
  return ids.map((id) => knownId(id, model, field));
}
