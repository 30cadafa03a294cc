import * as z from 'zod';
import { MAX_IDS } from '../protocol/generate.ts';
import { TokenId } from '../protocol/sampling.ts';
import { findModel, type ServedModel } from './backend.ts';
import { checkContinuation, templateFields } from './chat-schema.ts';
import { echoedPrompt } from './echo.ts';
import { badRequest } from './errors.ts';
import { chatText, needTokenizer } from './prompt.ts';
import { parseFields } from './request-fields.ts';
import { knownId } from './sampling-params.ts';

/** Longest text that `/tokenize` takes, in characters: nothing else happens meanwhile. */
const MAX_TEXT = 1 << 18;

const model = z.string().min(1).max(512).optional();

/** The fields of `/tokenize` (vLLM's): a text, or the messages of a chat. */
export const TokenizeRequest = z.strictObject({
  model,
  prompt: z.string().max(MAX_TEXT).optional(),
  ...templateFields,
  messages: templateFields.messages.optional(),
  add_special_tokens: z.boolean().optional(),
  return_token_strs: z.boolean().optional(),
});

/** The fields of `/detokenize` (vLLM's). */
export const DetokenizeRequest = z.strictObject({ model, tokens: z.array(TokenId).max(MAX_IDS) });

/** Answers `POST /tokenize`. Throws `ApiError` 400, or 404 for an unknown model; without one it is the first. */
export function tokenize(body: unknown, models: readonly ServedModel[]) {
  const { prompt, messages, ...request } = parseFields(TokenizeRequest, body);
  if ((prompt === undefined) === (messages === undefined)) {
    throw badRequest("Send either 'prompt', a text, or 'messages', a chat.", 'prompt');
  }
  const model = modelOf(models, request.model);
  const tokenizer = needTokenizer(
    model,
    prompt === undefined ? 'messages' : 'prompt',
    'Nothing here can be tokenized.',
  );
  let text = prompt ?? '';
  if (messages !== undefined) {
    const chat = { ...request, messages };
    checkContinuation(chat);
    text = chatText(tokenizer, chat);
    if (text.length > MAX_TEXT) throw badRequest(`The chat is longer than ${MAX_TEXT} characters.`, 'messages');
  }
  // Templates write BOS themselves (vLLM's defaults).
  const tokens = tokenizer.encode(text, request.add_special_tokens ?? prompt !== undefined);
  return {
    count: tokens.length,
    max_model_len: model.maxModelLen(),
    tokens,
    token_strs: request.return_token_strs === true ? tokens.map((id) => tokenizer.word(id)) : null,
  };
}

/** Answers `POST /detokenize`: the text of all tokens, special ones too. Throws `ApiError` 400 or 404. */
export function detokenize(body: unknown, models: readonly ServedModel[]) {
  const request = parseFields(DetokenizeRequest, body);
  const model = modelOf(models, request.model);
  const tokenizer = needTokenizer(model, 'tokens', 'There is no text of tokens here.');
  const ids = request.tokens.map((id) => knownId(id, model, 'tokens'));
  return { prompt: echoedPrompt(ids, ids, tokenizer).text };
}

function modelOf(models: readonly ServedModel[], name: string | undefined): ServedModel {
  return findModel(models, name ?? models[0]?.name ?? '');
}
