import * as z from 'zod';
import { SamplingParams } from '../protocol/sampling.ts';
import type { TemplateMessage } from './chat-template.ts';
import { dropNulls } from './drop-nulls.ts';
import { badRequest } from './errors.ts';
import { refusedChatFields, refusedTemplateFields } from './refused-fields.ts';
import { checkStreaming, parseFields, sharedFields } from './request-fields.ts';

/** Most messages of a chat. */
export const MAX_MESSAGES = 4096;
/** Most parts of one message. */
export const MAX_PARTS = 1024;
/** Most tools of a request, and calls of a message. */
export const MAX_TOOLS = 128;

const TextPart = z.strictObject({
  type: z.literal('text', 'only parts of type "text" can be read here'),
  text: z.string(),
});
/** Text, or parts of it; parts are joined by line breaks as vLLM does for templates that take text. */
const Content = z.union(
  [
    z.string(),
    z
      .array(TextPart)
      .max(MAX_PARTS)
      .transform((parts) => parts.map((part) => part.text).join('\n')),
  ],
  'must be text or a list of text parts',
);
const Name = z.string().max(256).optional();

/** A JSON text in the API, a value in templates (HF transformers' convention). */
export const CallArguments = z.string().transform((text, context) => {
  try {
    return text === '' ? {} : (JSON.parse(text) as unknown);
  } catch {
    context.addIssue('is no valid JSON');
    return z.NEVER;
  }
});

// Clients send answers back as they have them: `index`, `parsed` and `parsed_arguments` are what OpenAI's helpers add to
// them, copies that templates must not see.
const ToolCall = z
  .strictObject({
    index: z.int().min(0).optional(),
    id: z.string().max(256).optional(),
    type: z.literal('function').default('function'),
    function: z.strictObject({
      name: z.string().min(1).max(256),
      arguments: CallArguments,
      parsed_arguments: z.unknown().optional(),
    }),
  })
  .transform(({ id, type, function: { name, arguments: values } }) => ({
    ...(id !== undefined && { id }),
    type,
    function: { name, arguments: values },
  }));

const Message = z.preprocess(
  dropNulls,
  z.discriminatedUnion('role', [
    z.strictObject({ role: z.enum(['system', 'developer', 'user']), content: Content, name: Name }),
    z
      .strictObject({
        role: z.literal('assistant'),
        content: Content.default(''),
        name: Name,
        tool_calls: z.array(ToolCall).max(MAX_TOOLS).optional(),
        reasoning_content: z.string().optional(),
        // vLLM's newer name of the same.
        reasoning: z.string().optional(),
        // OpenAI's own answers have these, empty.
        annotations: z.array(z.never()).optional(),
        parsed: z.unknown().optional(),
      })
      .transform(({ annotations, parsed, ...message }) => message),
    z.strictObject({
      role: z.literal('tool'),
      content: Content,
      tool_call_id: z.string().max(256).optional(),
      name: Name,
    }),
  ]),
);

const Tool = z.strictObject({
  type: z.literal('function'),
  function: z.preprocess(
    dropNulls,
    z.strictObject({
      name: z.string().min(1).max(256),
      description: z.string().optional(),
      parameters: z.record(z.string(), z.unknown()).optional(),
      strict: z.boolean().optional(),
    }),
  ),
});

/** What a chat template makes a prompt of. */
export const templateFields = {
  messages: z.array(Message).min(1).max(MAX_MESSAGES),
  tools: z.array(Tool).max(MAX_TOOLS).optional(),
  add_generation_prompt: z.boolean().optional(),
  continue_final_message: z.boolean().optional(),
  chat_template_kwargs: z.record(z.string(), z.unknown()).optional(),
  ...refusedTemplateFields,
};
export type TemplateFields = Omit<z.infer<z.ZodObject<typeof templateFields>>, 'messages'> & {
  readonly messages: readonly TemplateMessage[];
};

const ToolChoice = z.union(
  [
    z.enum(['auto', 'none', 'required']),
    z.strictObject({ type: z.literal('function'), function: z.strictObject({ name: z.string().min(1).max(256) }) }),
  ],
  'must be "auto", "none", "required" or a function',
);

/** The fields of /v1/chat/completions. */
export const ChatRequest = z.strictObject({
  ...sharedFields,
  ...templateFields,
  max_completion_tokens: SamplingParams.shape.maxTokens.optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: SamplingParams.shape.logprobs.unwrap().optional(),
  tool_choice: ToolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  include_reasoning: z.boolean().optional(),
  modalities: z.tuple([z.literal('text')]).optional(),
  documents: z.array(z.record(z.string(), z.string())).max(MAX_MESSAGES).optional(),
  echo: z.literal(false, 'only /v1/completions gives prompts back: leave it out or send false').optional(),
  ...refusedChatFields,
});
export type ChatRequest = Omit<z.infer<typeof ChatRequest>, 'messages'> & {
  readonly messages: readonly TemplateMessage[];
};

/** Checks the body of /v1/chat/completions. Throws `ApiError` 400 that names the field at fault. */
export function parseChatRequest(body: unknown): ChatRequest {
  const request = parseFields(ChatRequest, body);
  checkStreaming(request);
  if (request.top_logprobs !== undefined && request.logprobs !== true) {
    throw badRequest("'top_logprobs' needs 'logprobs': true.", 'top_logprobs');
  }
  checkToolChoice(request);
  checkContinuation(request);
  const { max_tokens: old, max_completion_tokens: limit } = request;
  if (old !== undefined && limit !== undefined && old !== limit) {
    throw badRequest("'max_tokens' and 'max_completion_tokens' differ: send one of them.", 'max_tokens');
  }
  return request;
}

/** Throws `ApiError` 400 where tools and `tool_choice` contradict each other. */
export function checkToolChoice({ tools = [], tool_choice: choice = 'auto' }: ChatRequest): void {
  if (choice === 'auto' || choice === 'none' || tools.length > 0) return;
  throw badRequest("'tool_choice' needs 'tools' to choose from.", 'tool_choice');
}

/** Throws `ApiError` 400 where a request wants its last message to be gone on with and that cannot be. */
export function checkContinuation(request: TemplateFields): void {
  if (request.continue_final_message !== true) return;
  if (request.add_generation_prompt === true) {
    throw badRequest(
      "'continue_final_message' and 'add_generation_prompt' are opposites: send one of them as true.",
      'continue_final_message',
    );
  }
  const last = request.messages.at(-1);
  if (typeof last?.content === 'string' && last.content.trim() !== '') return;
  throw badRequest("'continue_final_message' needs a last message that has text.", 'continue_final_message');
}
