import { MAX_STOP_IDS, type SamplingParams } from '../protocol/sampling.ts';
import type { ServedModel } from './backend.ts';
import type { OutputOptions } from './choice-stream.ts';
import { badRequest } from './errors.ts';
import type { SharedFields } from './request-fields.ts';

export interface SamplingInput {
  readonly fields: SharedFields;
  /** The request's own bound on the choice's tokens and the field it came in; null: as many as fit. */
  readonly limit: { readonly tokens: number; readonly field: string } | null;
  /** Bound where the request has none (16 for /v1/completions, as OpenAI and vLLM); null: as many as fit. */
  readonly defaultLimit: number | null;
  readonly logprobs: number | null;
  readonly promptLogprobs: number | null;
}

/**
 * All of a request's sampling parameters for a prompt of `promptTokens` tokens; what the request leaves out comes from the model's
 * generation_config, then from vLLM's defaults. Throws `ApiError` 400, with both numbers when prompt and output do not fit.
 */
export function samplingParams(
  input: SamplingInput,
  model: ServedModel,
  promptTokens: number,
  drawSeed: () => [number, number],
): SamplingParams {
  const { fields } = input;
  const defaults = model.generationDefaults;
  const maxTokens = outputLimit(input, model, promptTokens);
  const minTokens = fields.min_tokens ?? 0;
  if (minTokens > maxTokens) {
    throw badRequest(
      `'min_tokens' (${minTokens}) is more than the ${maxTokens} tokens that the answer may have.`,
      'min_tokens',
    );
  }
  const topK = fields.top_k ?? defaults.topK ?? 0;
  return {
    temperature: fields.temperature ?? defaults.temperature ?? 1,
    topP: fields.top_p ?? defaults.topP ?? 1,
    topK: Math.max(topK, 0),
    minP: fields.min_p ?? defaults.minP ?? 0,
    repetitionPenalty: fields.repetition_penalty ?? defaults.repetitionPenalty ?? 1,
    presencePenalty: fields.presence_penalty ?? 0,
    frequencyPenalty: fields.frequency_penalty ?? 0,
    logitBias: logitBias(fields, model),
    seed: fields.seed === undefined ? drawSeed() : seedWords(fields.seed),
    minTokens,
    maxTokens,
    stopIds: stopIds(fields, model),
    logprobs: input.logprobs,
    promptLogprobs: input.promptLogprobs,
  };
}

/** How the request wants its text. Throws `ApiError` 400 for stop strings where there is no text. */
export function outputOptions(fields: SharedFields, model: ServedModel): OutputOptions {
  const stop = fields.stop ?? [];
  if (stop.length > 0 && model.tokenizer === null) {
    throw badRequest(
      "'stop' needs text, and this server runs without a tokenizer (--skip-tokenizer-init). Use 'stop_token_ids'.",
      'stop',
    );
  }
  return {
    stop,
    includeStop: fields.include_stop_str_in_output ?? false,
    skipSpecialTokens: fields.skip_special_tokens ?? true,
    shownTokenIds: new Set(),
    minTokens: fields.min_tokens ?? 0,
    stopTokenIds: fields.stop_token_ids ?? [],
    promptOnly: fields.max_tokens === 0,
  };
}

/** A seed as two u32 words, low first; negative ones in two's complement. */
function seedWords(seed: number): [number, number] {
  const bits = BigInt.asUintN(64, BigInt(seed));
  return [Number(bits & 0xffff_ffffn), Number(bits >> 32n)];
}

function outputLimit(input: SamplingInput, model: ServedModel, promptTokens: number): number {
  const context = model.maxModelLen();
  const room = context - promptTokens;
  if (room < 1) {
    throw badRequest(
      `This model's maximum context length is ${context} tokens, and the prompt alone has ${promptTokens}. ` +
        'Shorten the prompt: at least one token must be left for the answer.',
      'prompt',
      'context_length_exceeded',
    );
  }
  const { limit } = input;
  if (limit !== null && limit.tokens > room) {
    throw badRequest(
      `'${limit.field}' is too large: ${limit.tokens}. This model's maximum context length is ${context} tokens and the prompt has ` +
        `${promptTokens} (${limit.tokens} > ${context} - ${promptTokens}). Ask for at most ${room}.`,
      limit.field,
      'context_length_exceeded',
    );
  }
  return Math.min(limit?.tokens ?? input.defaultLimit ?? room, model.generationDefaults.maxTokens ?? room, room);
}

function logitBias(fields: SharedFields, model: ServedModel): [number, number][] {
  return Object.entries(fields.logit_bias ?? {}).map(([key, bias]) => [
    knownId(Number(key), model, 'logit_bias'),
    bias,
  ]);
}

function stopIds(fields: SharedFields, model: ServedModel): number[] {
  const own = (fields.stop_token_ids ?? []).map((id) => knownId(id, model, 'stop_token_ids'));
  const all = [...new Set([...(fields.ignore_eos ? [] : model.eosIds), ...own])];
  if (all.length > MAX_STOP_IDS) {
    throw badRequest(
      `'stop_token_ids' and the model's own end tokens are more than ${MAX_STOP_IDS}.`,
      'stop_token_ids',
    );
  }
  return all;
}

/** `id`, when the model has it; else throws `ApiError` 400 that names `field`. */
export function knownId(id: number, model: ServedModel, field: string): number {
  if (id < model.vocabSize) return id;
  throw badRequest(`'${field}' has token id ${id}; this model's ids end at ${model.vocabSize - 1}.`, field);
}
