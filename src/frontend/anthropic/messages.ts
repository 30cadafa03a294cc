import { findModel, type ServedModel } from '../backend.ts';
import { chatPlan } from '../chat.ts';
import { chatPrompt } from '../prompt.ts';
import type { Endpoint } from '../serve.ts';
import { withChat } from './chat-of.ts';
import { MessageShape } from './message-shape.ts';
import { type MessagesRequest, parseCountTokensRequest, parseMessagesRequest } from './schema.ts';

/** /v1/messages, for the request of this `x-request-id`. */
export function messagesEndpoint(requestId: string | null): Endpoint<MessagesRequest> {
  return {
    endpoint: 'anthropic_messages',
    idPrefix: 'msg_',
    parse: parseMessagesRequest,
    plan(request, model, head, drawSeed) {
      const more = {
        max_completion_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop: request.stop_sequences,
      };
      const { plan, reading } = withChat(request, more, model, (chat) => chatPlan(chat, model, head.id, drawSeed));
      return { plan, shape: new MessageShape({ head, reading, requestId }) };
    },
  };
}

/** Answers `POST /v1/messages/count_tokens`. Throws `ApiError` 400, or 404 for an unknown model. */
export function countTokens(body: unknown, models: readonly ServedModel[]): { readonly input_tokens: number } {
  const request = parseCountTokensRequest(body);
  const model = findModel(models, request.model);
  return { input_tokens: withChat(request, {}, model, (chat) => chatPrompt(chat, model).ids.length) };
}
