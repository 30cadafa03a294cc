import { toBase64 } from '../protocol/base64.ts';
import { NO_ID, type PromptEmbeds } from '../protocol/prompt-embeds.ts';
import type { ServedModel } from './backend.ts';
import type { ChatRequest, TemplateFields } from './chat-schema.ts';
import type { CompletionRequest, PromptInput } from './completion-schema.ts';
import type { EmbeddingRequest } from './embedding-schema.ts';
import { readEmbeds } from './embeds/read-embeds.ts';
import { badRequest } from './errors.ts';
import { knownId } from './sampling-params.ts';
import type { ChatTokenizer } from './tokenizer.ts';

/** A chat's prompt as its template makes it. Throws `ApiError` 400. */
export function chatPrompt(request: ChatRequest, model: ServedModel): { text: string; ids: number[] } {
  const tokenizer = needTokenizer(model, 'messages', 'Send token ids to /v1/completions.');
  const text = chatText(tokenizer, request);
  // The template writes BOS itself (vLLM's default).
  const ids = encode(tokenizer, text, request.add_special_tokens ?? false, model, 'messages');
  const answer = request.max_completion_tokens ?? request.max_tokens ?? 1;
  return { text, ids: truncated(ids, request.truncate_prompt_tokens, answer, model) };
}

/** The text that a chat is to the model. Throws `ApiError` 400 when the template refuses. */
export function chatText(
  tokenizer: ChatTokenizer,
  request: TemplateFields & Pick<Partial<ChatRequest>, 'tool_choice' | 'documents'>,
): string {
  return tokenizer.render({
    messages: request.messages,
    // With `tool_choice: none` the model is not told of its tools: that alone keeps it from calling them.
    tools:
      request.tools !== undefined && request.tools.length > 0 && request.tool_choice !== 'none' ? request.tools : null,
    addGenerationPrompt: request.add_generation_prompt ?? request.continue_final_message !== true,
    continueFinalMessage: request.continue_final_message ?? false,
    documents: request.documents,
    kwargs: request.chat_template_kwargs ?? {},
  });
}

/** The token ids of one prompt of /v1/completions. Throws `ApiError` 400. */
export function completionPrompt(prompt: PromptInput, request: CompletionRequest, model: ServedModel): number[] {
  const ids = idsOf(prompt, 'prompt', request.add_special_tokens ?? true, model);
  return truncated(ids, request.truncate_prompt_tokens, request.max_tokens ?? 1, model);
}

/** The token ids of one text, or list of ids, of /v1/embeddings: all of a context. Throws `ApiError` 400. */
export function embeddingPrompt(input: PromptInput, request: EmbeddingRequest, model: ServedModel): number[] {
  const ids = idsOf(input, 'input', request.add_special_tokens ?? true, model);
  const kept = truncated(ids, request.truncate_prompt_tokens, 0, model);
  const context = model.maxModelLen();
  if (kept.length <= context) return kept;
  const message = `This model's maximum context length is ${context} tokens, and an input has ${kept.length}. Shorten it, or send 'truncate_prompt_tokens': -1.`;
  throw badRequest(message, 'input', 'context_length_exceeded');
}

/** The embeddings of one text of `prompt_embeds`; `field` names it in errors. Throws `ApiError` 400. */
export function embedsPrompt(
  text: string,
  field: string,
  request: CompletionRequest,
  model: ServedModel,
): { ids: number[]; embeds: PromptEmbeds } {
  const { dtype, tokens, bytes } = readEmbeds(text, field, model.hiddenSize);
  const kept = Math.min(tokens, mostTokens(request.truncate_prompt_tokens, request.max_tokens ?? 1, model));
  const last = bytes.subarray(bytes.length - (bytes.length / tokens) * kept);
  return { ids: new Array<number>(kept).fill(NO_ID), embeds: { dtype, data: toBase64(last) } };
}

/** What `field` brought, as ids. */
function idsOf(input: PromptInput, field: string, addSpecialTokens: boolean, model: ServedModel): number[] {
  if (typeof input !== 'string') return input.map((id) => knownId(id, model, field));
  return encode(needTokenizer(model, field, 'Send token ids.'), input, addSpecialTokens, model, field);
}

function truncated(ids: number[], limit: number | undefined, answer: number, model: ServedModel): number[] {
  return ids.slice(-mostTokens(limit, answer, model));
}

/** `truncate_prompt_tokens`: the last so many tokens; with -1 as many as leave room for the answer. */
function mostTokens(limit: number | undefined, answer: number, model: ServedModel): number {
  if (limit === undefined) return Number.POSITIVE_INFINITY;
  return limit === -1 ? Math.max(1, model.maxModelLen() - answer) : limit;
}

/** Throws `ApiError` 400 that names `field` where the server has none. */
export function needTokenizer(model: ServedModel, field: string, instead: string): ChatTokenizer {
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
