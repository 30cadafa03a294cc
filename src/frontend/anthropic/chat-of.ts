import type { ServedModel } from '../backend.ts';
import { type ChatRequest, checkContinuation, checkToolChoice } from '../chat-schema.ts';
import { badRequest } from '../errors.ts';
import { type FieldNames, inWordsOf } from '../field-names.ts';
import { thinkingSwitch } from '../thinking.ts';
import type { PromptRequest } from './schema.ts';
import { chatMessages, isContinued } from './turns.ts';

const FIELDS: FieldNames = [
  [/'chat_template_kwargs': \{"enable_thinking": false\}/g, `'thinking': {"type": "disabled"}`],
  [/'(prompt|continue_final_message)'/g, "'messages'"],
  [/'max_completion_tokens'/g, "'max_tokens'"],
  [/'response_format'/g, "'output_config.format'"],
  [/'tools\[(\d+)\]\.function\.parameters'/g, "'tools[$1].input_schema'"],
  [/'tools\[(\d+)\]\.function\./g, "'tools[$1]."],
  [/'tool_choice': "required" or a function/g, `'tool_choice': {"type": "any"} or a tool`],
];

/** Does `work` with the chat that `request` is. Its errors name the fields of /v1/messages. */
export function withChat<T>(
  request: PromptRequest,
  more: Omit<Partial<ChatRequest>, 'messages' | 'model'>,
  model: ServedModel,
  work: (chat: ChatRequest) => T,
): T {
  return inWordsOf(FIELDS, () => {
    const chat = { ...chatOf(request, model), ...more };
    checkToolChoice(chat);
    checkContinuation(chat);
    return work(chat);
  });
}

function chatOf(request: PromptRequest, model: ServedModel): ChatRequest {
  const { system, messages, tools, tool_choice: choice, thinking, output_config: output } = request;
  return {
    model: request.model,
    messages: [...(system === undefined ? [] : [{ role: 'system', content: system }]), ...chatMessages(messages)],
    continue_final_message: isContinued(messages),
    tools: tools?.map(({ name, description, input_schema: parameters, strict }) => ({
      type: 'function',
      // What is undefined is not there to a template.
      function: {
        name,
        ...(description === undefined ? {} : { description }),
        parameters,
        ...(strict ? { strict } : {}),
      },
    })),
    tool_choice: chatChoice(choice),
    parallel_tool_calls: !(choice !== undefined && choice.type !== 'none' && choice.disable_parallel_tool_use === true),
    include_reasoning: !(thinking !== undefined && thinking.type !== 'disabled' && thinking.display === 'omitted'),
    response_format:
      output?.format === undefined
        ? undefined
        : { type: 'json_schema', json_schema: { name: 'answer', schema: output.format.schema } },
    chat_template_kwargs: { ...thinkingOf(thinking, model), ...effortOf(output?.effort, model) },
  };
}

function chatChoice(choice: PromptRequest['tool_choice']): ChatRequest['tool_choice'] {
  if (choice === undefined) return undefined;
  switch (choice.type) {
    case 'any':
      return 'required';
    case 'tool':
      return { type: 'function', function: { name: choice.name } };
    default:
      return choice.type;
  }
}

/** Without a wish a model does not think, where it has the choice. */
function thinkingOf(thinking: PromptRequest['thinking'], model: ServedModel): Record<string, unknown> {
  if (thinking?.type === 'enabled') return thinkingSwitch(model, true, 'thinking');
  if (thinking?.type === 'disabled') return thinkingSwitch(model, false, 'thinking');
  const knows = model.tokenizer?.template?.includes('enable_thinking') === true;
  return knows ? { enable_thinking: thinking !== undefined } : {};
}

function effortOf(effort: string | undefined, model: ServedModel): Record<string, unknown> {
  if (effort === undefined) return {};
  if (model.tokenizer?.template?.includes('reasoning_effort') === true) return { reasoning_effort: effort };
  throw badRequest(
    "'output_config.effort' cannot be done: this model knows no degrees. Leave it out.",
    'output_config.effort',
  );
}
