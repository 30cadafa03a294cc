import * as z from 'zod';
import { SamplingParams } from '../../protocol/sampling.ts';
import { MAX_TOOLS } from '../chat-schema.ts';
import { dropNulls } from '../drop-nulls.ts';
import { badRequest } from '../errors.ts';
import { Schema } from '../grammar/structured-output.ts';
import { refused } from '../refused-fields.ts';
import { MAX_STOPS, parseFields, StopString, sharedFields } from '../request-fields.ts';
import { CacheControl, SystemText, Turns } from './turns.ts';

const THREAD = 'no conversation is kept here; send all of its messages';
const Name = z.string().min(1).max(256);

const Tool = z.preprocess(
  dropNulls,
  z.strictObject({
    type: z.literal('custom', 'only tools of type "custom" are there: nothing else runs on this server').optional(),
    name: Name,
    description: z.string().optional(),
    input_schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().optional(),
    cache_control: CacheControl.optional(),
    // A call is told as it is made, whatever this says.
    eager_input_streaming: z.boolean().optional(),
    defer_loading: z.literal(false, 'the model is told of all tools: leave it out or send false').optional(),
    input_examples: refused('templates do not take them; say it in the description'),
    allowed_callers: refused('no code of a model runs here'),
  }),
);

const parallel = { disable_parallel_tool_use: z.boolean().optional() };
const ToolChoice = z.discriminatedUnion(
  'type',
  [
    z.strictObject({ type: z.literal('auto'), ...parallel }),
    z.strictObject({ type: z.literal('any'), ...parallel }),
    z.strictObject({ type: z.literal('tool'), name: Name, ...parallel }),
    z.strictObject({ type: z.literal('none') }),
  ],
  'must be "auto", "any", "tool" or "none"',
);

const display = { display: z.enum(['summarized', 'omitted']).optional() };
const Thinking = z.discriminatedUnion(
  'type',
  [
    z.strictObject({ type: z.literal('enabled'), budget_tokens: z.number().int().min(1).optional(), ...display }),
    z.strictObject({ type: z.literal('adaptive'), ...display }),
    z.strictObject({ type: z.literal('disabled') }),
  ],
  'must be "enabled", "adaptive" or "disabled"',
);

/** What a prompt is made of. */
const promptFields = {
  model: sharedFields.model,
  messages: Turns,
  system: SystemText.optional(),
  tools: z.array(Tool).max(MAX_TOOLS).optional(),
  tool_choice: z.preprocess(dropNulls, ToolChoice).optional(),
  thinking: z.preprocess(dropNulls, Thinking).optional(),
  output_config: z
    .preprocess(
      dropNulls,
      z.strictObject({
        effort: z.enum(['low', 'medium', 'high', 'xhigh', 'max']).optional(),
        format: z.strictObject({ type: z.literal('json_schema'), schema: Schema }).optional(),
      }),
    )
    .optional(),
  cache_control: CacheControl.optional(),
  speed: refused('there is one speed'),
  user_profile_id: refused('no users are known here'),
  workspace_id: refused('no workspaces are known here'),
};

/** The fields of /v1/messages. */
export const MessagesRequest = z.strictObject({
  ...promptFields,
  max_tokens: SamplingParams.shape.maxTokens,
  stop_sequences: z.array(StopString).max(MAX_STOPS).optional(),
  stream: sharedFields.stream,
  temperature: sharedFields.temperature,
  top_p: sharedFields.top_p,
  top_k: z.number().int().min(0).optional(),
  metadata: z.preprocess(dropNulls, z.strictObject({ user_id: z.string().max(4096).optional() })).optional(),
  service_tier: z.enum(['auto', 'standard_only']).optional(),
  container: refused('no code runs on this server'),
  context_management: refused('a conversation is never shortened here'),
  diagnostics: refused('the log of the server has them'),
  inference_geo: refused('the nodes are where they are'),
  mcp_servers: refused('no tools run on this server'),
  thread: refused(THREAD),
});
export type MessagesRequest = z.infer<typeof MessagesRequest>;

/** The fields of /v1/messages/count_tokens. */
export const CountTokensRequest = z.strictObject(promptFields);
export type PromptRequest = z.infer<typeof CountTokensRequest>;

/** Checks the body of /v1/messages. Throws `ApiError` 400 that names the field at fault. */
export function parseMessagesRequest(body: unknown): MessagesRequest {
  // The official client's tool runner tries this first, and goes on without where it reads this code.
  if (typeof body === 'object' && body !== null && 'thread' in body && body.thread !== null) {
    throw badRequest(`'thread' is not supported: ${THREAD}.`, 'thread', 'thread_unsupported_request');
  }
  return checked(parseFields(MessagesRequest, body));
}

/** Checks the body of /v1/messages/count_tokens. Throws `ApiError` 400 that names the field at fault. */
export function parseCountTokensRequest(body: unknown): PromptRequest {
  return checked(parseFields(CountTokensRequest, body));
}

function checked<T extends PromptRequest>(request: T): T {
  const { content } = request.messages.at(-1) ?? {};
  if (Array.isArray(content) && content.some((block) => block.type === 'tool_use')) {
    throw badRequest("'messages' ends with a call: send its result in a user's message after it.", 'messages');
  }
  return request;
}
