import type { ServedModel } from '../backend.ts';
import { chatPlan } from '../chat.ts';
import { type ChatRequest, checkToolChoice } from '../chat-schema.ts';
import { badRequest } from '../errors.ts';
import { type FieldNames, inWordsOf } from '../field-names.ts';
import type { GenerationPlan } from '../generation.ts';
import { tokenNames } from '../logprobs.ts';
import type { ResponseHead } from '../response.ts';
import type { Endpoint } from '../serve.ts';
import { thinkingSwitch } from '../thinking.ts';
import { answered, chatMessages, type Item } from './items.ts';
import { ResponsesShape } from './response-shape.ts';
import type { ResponseStore } from './response-store.ts';
import { parseResponsesRequest, type ResponsesRequest } from './schema.ts';

const FIELDS: FieldNames = [
  [/'chat_template_kwargs': \{"enable_thinking": false\}/g, `'reasoning': {"effort": "none"}`],
  [/'(messages|prompt)'/g, "'input'"],
  [/'max_completion_tokens'/g, "'max_output_tokens'"],
  [/'response_format'/g, "'text.format'"],
  [/'tools\[(\d+)\]\.function\./g, "'tools[$1]."],
];

/** /v1/responses for one caller, whose earlier responses are those of `owner`. `now`: milliseconds since the epoch. */
export function responsesEndpoint(
  store: ResponseStore,
  owner: string | null,
  now: () => number,
): Endpoint<ResponsesRequest> {
  return {
    endpoint: 'responses',
    idPrefix: 'resp_',
    parse: parseResponsesRequest,
    plan(request, model, head, drawSeed) {
      const items = [...earlier(request, store, owner), ...request.input];
      const { plan, reading } = inWordsOf(FIELDS, () => {
        const chat = chatOf(request, items, model);
        checkToolChoice(chat);
        return chatPlan(chat, model, head.id, drawSeed);
      });
      const shape = new ResponsesShape({
        id: head.id,
        facts: factsOf(request, head, plan),
        reading,
        names: request.include === undefined ? null : tokenNames(model.tokenizer, false),
        now,
        ended(response) {
          if (request.store === false) return;
          store.put(owner, { response, items: [...items, ...answered(response.output)] });
        },
      });
      return { plan, shape };
    },
  };
}

/** The conversation that the request goes on with. Throws `ApiError` 400 where it is not known. */
function earlier(
  { previous_response_id: id }: ResponsesRequest,
  store: ResponseStore,
  owner: string | null,
): readonly Item[] {
  if (id === undefined) return [];
  const found = store.get(id, owner);
  if (found !== null) return found.items;
  const message = `There is no response '${id}' to go on with: it was made with "store": false or another key, was deleted, or made room for newer ones. Send the whole conversation as 'input'.`;
  throw badRequest(message, 'previous_response_id', 'previous_response_not_found');
}

function chatOf(request: ResponsesRequest, items: readonly Item[], model: ServedModel): ChatRequest {
  const { instructions, text, tools, tool_choice: choice } = request;
  const system = instructions === undefined ? [] : [{ role: 'system', content: instructions }];
  const format = text?.format;
  return {
    model: request.model,
    messages: [...system, ...chatMessages(items)],
    tools: tools?.map(({ type, ...tool }) => ({ type, function: tool })),
    tool_choice: typeof choice === 'object' ? { type: 'function', function: { name: choice.name } } : choice,
    parallel_tool_calls: request.parallel_tool_calls,
    max_completion_tokens: request.max_output_tokens,
    temperature: request.temperature,
    top_p: request.top_p,
    logprobs: request.include !== undefined,
    top_logprobs: request.top_logprobs,
    response_format: format?.type === 'json_schema' ? { type: 'json_schema', json_schema: schemaOf(format) } : format,
    chat_template_kwargs: templateVariables(request, model),
  };
}

function schemaOf<T extends { readonly type: unknown }>({ type: _, ...schema }: T): Omit<T, 'type'> {
  return schema;
}

/** Templates know whether to reason; the few that know how much are told that too. */
function templateVariables({ reasoning }: ResponsesRequest, model: ServedModel): Record<string, unknown> {
  const effort = reasoning?.effort;
  if (effort === undefined) return {};
  const degrees = model.tokenizer?.template?.includes('reasoning_effort') === true;
  if (degrees) return { reasoning_effort: effort };
  return thinkingSwitch(model, effort !== 'none', 'reasoning.effort');
}

/** What a response object tells of its request, with the values that were taken where it said none. */
function factsOf(request: ResponsesRequest, head: ResponseHead, plan: GenerationPlan): object {
  const sampling = plan.prompts[0]?.sampling;
  return {
    created_at: head.created,
    model: head.model,
    background: false,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: request.previous_response_id ?? null,
    prompt_cache_key: request.prompt_cache_key ?? null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: request.reasoning?.summary ?? null },
    safety_identifier: request.safety_identifier ?? null,
    service_tier: 'default',
    store: request.store ?? true,
    temperature: sampling?.temperature ?? null,
    text: { format: request.text?.format ?? { type: 'text' } },
    tool_choice: request.tool_choice ?? 'auto',
    tools: request.tools ?? [],
    top_logprobs: request.top_logprobs ?? 0,
    top_p: sampling?.topP ?? null,
    truncation: 'disabled',
    user: request.user ?? null,
  };
}
