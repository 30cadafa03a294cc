import { readFileSync } from 'node:fs';
import * as z from 'zod';
import { OptionError } from '../../config/option.ts';
import { TokenId } from '../../protocol/sampling.ts';

const maxTokens = z.number().int().min(1).max(64);
const ids = z.array(TokenId).min(1).max(4096);

/** Dynamo's form: what its workers are asked with. */
const DynamoForm = z.strictObject({
  token_ids: ids,
  stop_conditions: z.strictObject({ max_tokens: maxTokens.default(1), ignore_eos: z.boolean().optional() }).optional(),
  sampling_options: z.strictObject({ temperature: z.number().min(0).max(2).optional() }).optional(),
});
/** The form of a completion. */
const CompletionForm = z.strictObject({
  prompt: z.union([z.string().min(1).max(16_384), ids]),
  max_tokens: maxTokens.default(1),
  temperature: z.number().min(0).max(2).optional(),
});

/** What a health check computes; null = the model's BOS, else token 1. */
export interface CanaryPayload {
  readonly prompt: string | readonly number[] | null;
  readonly maxTokens: number;
  readonly temperature: number;
}

export const DEFAULT_CANARY: CanaryPayload = { prompt: null, maxTokens: 1, temperature: 0 };

/** `DYN_HEALTH_CHECK_PAYLOAD`: JSON, or the name of a file that holds it, with or without Dynamo's `@`. Throws `OptionError`. */
export function readCanaryPayload(text: string | null): CanaryPayload {
  if (text === null) return DEFAULT_CANARY;
  const isJson = text.trimStart().startsWith('{');
  const wrong = (why: string) => new OptionError(`--health-check-payload ${isJson ? '' : `${text}: `}${why}.`);
  let json: unknown;
  try {
    json = JSON.parse(isJson ? text : readFileSync(text.replace(/^@/, ''), 'utf8'));
  } catch (error) {
    throw wrong(`this is no JSON, and no file with JSON (${error instanceof Error ? error.message : String(error)})`);
  }
  const dynamo = DynamoForm.safeParse(json);
  if (dynamo.success) {
    const { token_ids, stop_conditions, sampling_options } = dynamo.data;
    const temperature = sampling_options?.temperature ?? 0;
    return { prompt: token_ids, maxTokens: stop_conditions?.max_tokens ?? 1, temperature };
  }
  const completion = CompletionForm.safeParse(json);
  if (completion.success) {
    const { prompt, max_tokens, temperature } = completion.data;
    return { prompt, maxTokens: max_tokens, temperature: temperature ?? 0 };
  }
  const isCompletion = typeof json === 'object' && json !== null && 'prompt' in json;
  const issue = (isCompletion ? completion : dynamo).error.issues[0];
  throw wrong(
    `${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'wrong'}. Write {"token_ids":[1],"stop_conditions":{"max_tokens":1}} or {"prompt":"Hi","max_tokens":1}`,
  );
}
