import * as z from 'zod';
import { Priority } from '../protocol/generate.ts';
import { MAX_LOGIT_BIAS, MAX_STOP_IDS, MAX_TOP_LOGPROBS, SamplingParams, TokenId } from '../protocol/sampling.ts';
import { dropNulls } from './drop-nulls.ts';
import { type ApiError, badRequest } from './errors.ts';
import { structuredFields } from './grammar/structured-output.ts';
import { refusedFields } from './refused-fields.ts';
import { Nvext } from './routing.ts';

/** Most choices of one HTTP request: prompts times `n`. */
export const MAX_CHOICES = 128;
/** Stop strings of a request. OpenAI allows 4; vLLM any number. */
export const MAX_STOPS = 16;
const MAX_STOP_LENGTH = 1024;

const engine = SamplingParams.shape;
const flag = z.boolean().optional();

/** JavaScript strings may hold half of a surrogate pair; no text that a model makes ever does. */
const WellFormed = z.string().refine((text) => !/\p{Surrogate}/u.test(text), 'is not valid Unicode');
/** A text that ends an answer. */
export const StopString = WellFormed.min(1).max(MAX_STOP_LENGTH);

/**
 * Fields that /v1/chat/completions and /v1/completions share: OpenAI's, then vLLM's. A field that is null counts as left out;
 * one that is not listed is refused by name.
 */
export const sharedFields = {
  model: z.string().min(1).max(512),
  stream: flag,
  stream_options: z
    .preprocess(
      dropNulls,
      z.strictObject({
        include_usage: flag,
        continuous_usage_stats: flag,
        include_obfuscation: z.literal(false, 'chunks are not padded here: leave it out or send false').optional(),
      }),
    )
    .optional(),
  n: z.number().int().min(1).max(MAX_CHOICES).optional(),
  max_tokens: engine.maxTokens.optional(),
  temperature: engine.temperature.optional(),
  top_p: engine.topP.optional(),
  presence_penalty: engine.presencePenalty.optional(),
  frequency_penalty: engine.frequencyPenalty.optional(),
  logit_bias: z
    .record(z.string().regex(/^\d{1,10}$/, 'keys are token ids'), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= MAX_LOGIT_BIAS, `has more than ${MAX_LOGIT_BIAS} entries`)
    .optional(),
  // Any 64-bit integer; JSON numbers beyond 2^53 arrive rounded to the next double.
  seed: z
    .number()
    .refine((seed) => Number.isInteger(seed) && Math.abs(seed) <= 2 ** 63, 'is no 64-bit integer')
    .optional(),
  stop: z
    .union(
      [StopString.transform((stop) => [stop]), z.array(StopString).max(MAX_STOPS)],
      'must be a string or a list of strings',
    )
    .optional(),

  top_k: z.number().int().min(-1).optional(),
  min_p: engine.minP.optional(),
  repetition_penalty: engine.repetitionPenalty.optional(),
  min_tokens: engine.minTokens.optional(),
  ignore_eos: flag,
  stop_token_ids: z.array(TokenId).max(MAX_STOP_IDS).optional(),
  include_stop_str_in_output: flag,
  skip_special_tokens: flag,
  // Texts here are the bytes of their tokens, one after the other: either value gives the same.
  spaces_between_special_tokens: flag,
  add_special_tokens: flag,
  truncate_prompt_tokens: z
    .number()
    .int()
    .min(-1)
    .refine((tokens) => tokens !== 0, 'must be -1, or at least 1')
    .optional(),
  prompt_logprobs: z.number().int().min(0).max(MAX_TOP_LOGPROBS).optional(),
  return_token_ids: flag,
  return_tokens_as_token_ids: flag,
  priority: Priority.optional(),
  cache_salt: z.string().min(1).max(256).optional(),
  nvext: Nvext.optional(),
  ...structuredFields,

  // Harmless here: they change nothing about the answer, so they are taken and have no effect.
  user: z.string().max(4096).optional(),
  safety_identifier: z.string().max(4096).optional(),
  prompt_cache_key: z.string().max(4096).optional(),
  metadata: z.record(z.string().max(256), z.string().max(4096)).optional(),
  store: z.literal(false, 'nothing is stored here: leave it out or send false').optional(),
  service_tier: z.enum(['auto', 'default']).optional(),

  ...refusedFields,
};

export type SharedFields = z.infer<z.ZodObject<typeof sharedFields>>;

/** Checks a body against a schema. Throws `ApiError` 400 that names the first field at fault. */
export function parseFields<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(dropNulls(body), { reportInput: true });
  if (result.success) return result.data;
  throw fieldError(result.error.issues);
}

/** Throws `ApiError` 400 where fields contradict `stream`. */
export function checkStreaming(request: SharedFields): void {
  const stream = request.stream ?? false;
  if (!stream && request.stream_options !== undefined) {
    throw badRequest("'stream_options' needs 'stream': true.", 'stream_options');
  }
  if (request.stream_options?.continuous_usage_stats === true && request.stream_options.include_usage !== true) {
    const field = 'stream_options.continuous_usage_stats';
    throw badRequest(`'${field}' needs 'stream_options.include_usage': true.`, field);
  }
  if (stream && request.prompt_logprobs !== undefined) {
    throw badRequest("'prompt_logprobs' cannot be streamed: send 'stream': false.", 'prompt_logprobs');
  }
}

function fieldError(issues: readonly Issue[]): ApiError {
  const { issue, path } = innermost({ issue: issues[0] as Issue, path: (issues[0] as Issue).path });
  if (issue.code === 'unrecognized_keys') {
    const name = fieldName([...path, issue.keys[0] as string]);
    return badRequest(`Unknown or unsupported field '${name}'. Nothing is ignored here: leave it out.`, name);
  }
  const name = fieldName(path);
  if (issue.code === 'invalid_type' && issue.expected === 'never') {
    return badRequest(`'${name}' is not supported: ${issue.message}. Leave it out.`, name);
  }
  if (name === '') return badRequest('The body must be a JSON object.');
  if (issue.input === undefined && (issue.code === 'invalid_type' || issue.code === 'invalid_union')) {
    return badRequest(`The field '${name}' is missing.`, name);
  }
  return badRequest(`Invalid value of '${name}': ${issue.message}.`, name);
}

type Issue = z.core.$ZodIssue;
interface PlacedIssue {
  readonly issue: Issue;
  readonly path: readonly PropertyKey[];
}

/** The issue that says most: of a union's alternatives the one that took most of the value, so has the right type or fails deepest. */
function innermost({ issue, path }: PlacedIssue): PlacedIssue {
  if (issue.code !== 'invalid_union') return { issue, path };
  const inner = issue.errors.flatMap((branch) =>
    branch[0] === undefined ? [] : [innermost({ issue: branch[0], path: [...path, ...branch[0].path] })],
  );
  const fits = (placed: PlacedIssue) =>
    placed.path.length + (['invalid_type', 'invalid_union'].includes(placed.issue.code) ? 0 : 0.5);
  return inner.reduce((best, next) => (fits(next) > fits(best) ? next : best), { issue, path });
}

function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part, at) => (typeof part === 'number' ? `[${part}]` : at === 0 ? String(part) : `.${String(part)}`))
    .join('');
}
