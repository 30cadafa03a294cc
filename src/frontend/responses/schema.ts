import * as z from 'zod';
import { SamplingParams } from '../../protocol/sampling.ts';
import { MAX_TOOLS } from '../chat-schema.ts';
import { dropNulls } from '../drop-nulls.ts';
import { badRequest } from '../errors.ts';
import { Schema } from '../grammar/structured-output.ts';
import { refused } from '../refused-fields.ts';
import { parseFields, sharedFields } from '../request-fields.ts';
import { Input } from './items.ts';

const LOGPROBS = 'message.output_text.logprobs';
const Name = z.string().min(1).max(256);

const FunctionTool = z.preprocess(
  dropNulls,
  z.strictObject({
    type: z.literal('function', 'only tools of type "function" are there: nothing else runs on this server'),
    name: Name,
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().optional(),
  }),
);

const ToolChoice = z.union(
  [
    z.enum(['auto', 'none', 'required']),
    z.strictObject({ type: z.literal('function', 'only a tool of type "function" can be chosen'), name: Name }),
  ],
  'must be "auto", "none", "required" or a function',
);

const TextFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    name: Name,
    description: z.string().optional(),
    schema: Schema,
    // Output is always held to the schema, whatever this says.
    strict: z.boolean().optional(),
  }),
]);

const objectOf = <T extends z.core.$ZodLooseShape>(shape: T) =>
  z.preprocess(dropNulls, z.strictObject(shape)).optional();

/** The fields of /v1/responses. */
export const ResponsesRequest = z.strictObject({
  model: sharedFields.model,
  input: Input,
  instructions: z.string().optional(),
  previous_response_id: Name.optional(),
  store: z.boolean().optional(),
  stream: sharedFields.stream,
  stream_options: objectOf({
    include_obfuscation: z.literal(false, 'events are not padded here: leave it out or send false').optional(),
  }),
  max_output_tokens: SamplingParams.shape.maxTokens.optional(),
  temperature: sharedFields.temperature,
  top_p: sharedFields.top_p,
  top_logprobs: SamplingParams.shape.logprobs.unwrap().optional(),
  include: z
    .array(z.literal(LOGPROBS, `only "${LOGPROBS}" can be included here`))
    .max(1)
    .optional(),
  text: objectOf({
    format: z.preprocess(dropNulls, TextFormat).optional(),
    verbosity: refused('models here do not know it; say it in the instructions'),
  }),
  reasoning: objectOf({
    effort: z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']).optional(),
    summary: z
      .literal('auto', 'reasoning is told as it is, nothing is summed up: leave it out or send "auto"')
      .optional(),
    generate_summary: refused('it is deprecated, and nothing is summed up here'),
  }),
  tools: z.array(FunctionTool).max(MAX_TOOLS).optional(),
  tool_choice: ToolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  truncation: z.literal('disabled', 'only "disabled" is supported: an input that does not fit is refused').optional(),
  service_tier: sharedFields.service_tier,
  metadata: sharedFields.metadata,
  user: sharedFields.user,
  safety_identifier: sharedFields.safety_identifier,
  prompt_cache_key: sharedFields.prompt_cache_key,

  background: z.literal(false, 'only false is supported: a response is computed while its client waits').optional(),
  conversation: refused('use previous_response_id'),
  prompt: refused('no prompts are kept here; send input'),
  max_tool_calls: refused('no tools run on this server'),
  prompt_cache_retention: refused('a cached prefix stays as long as there is room'),
  prompt_cache_options: refused('a cached prefix stays as long as there is room'),
  context_management: refused('a conversation is never shortened here'),
  moderation: refused('nothing is moderated here'),
});
export type ResponsesRequest = z.infer<typeof ResponsesRequest>;

/** Checks the body of /v1/responses. Throws `ApiError` 400 that names the field at fault. */
export function parseResponsesRequest(body: unknown): ResponsesRequest {
  const request = parseFields(ResponsesRequest, body);
  const { include, top_logprobs: top, stream, stream_options: options, tools = [], tool_choice: choice } = request;
  if (options !== undefined && stream !== true) {
    throw badRequest("'stream_options' needs 'stream': true.", 'stream_options');
  }
  if (top !== undefined && include === undefined) {
    throw badRequest(`'top_logprobs' needs 'include': ["${LOGPROBS}"].`, 'top_logprobs');
  }
  // Which token belongs to a text and which to a call is not known.
  if (include !== undefined && tools.length > 0 && choice !== 'none') {
    throw badRequest("Logprobs of an answer that may call cannot be told: leave 'include' or 'tools' out.", 'include');
  }
  return request;
}
