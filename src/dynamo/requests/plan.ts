import { randomBytes, randomUUID } from 'node:crypto';
import type { ServedModel } from '../../frontend/backend.ts';
import { Detokenizer } from '../../frontend/detokenizer.ts';
import { badRequest } from '../../frontend/errors.ts';
import type { GenerationPlan } from '../../frontend/generation.ts';
import { structuredOutput } from '../../frontend/grammar/structured-output.ts';
import { THOUGHT_FORMATS } from '../../frontend/parsers/model-parsers.ts';
import { promptThought } from '../../frontend/parsers/thought.ts';
import type { SharedFields } from '../../frontend/request-fields.ts';
import { knownId, outputOptions, samplingParams } from '../../frontend/sampling-params.ts';
import { thoughtBefore } from '../../frontend/thought-before.ts';
import type { HeldTo } from '../../protocol/generate.ts';
import type { PreprocessedRequest } from './preprocessed-request.ts';

/** What a request computes, and how it is answered. */
export interface RequestPlan {
  readonly plan: GenerationPlan;
  /**
   * The answer has the texts of its tokens, so that the frontend does not look for them itself. It could not hold back what may begin a stop
   * string, cut a token that ends one, or know which stop ids are the client's.
   */
  readonly withText: boolean;
  readonly logprobs: boolean;
}

/** Enough of a prompt's end to see a mark of reasoning in. */
const LAST_TOKENS = 64;

/** Plans a request for a model; priorities: whether requests may go before others. Throws `ApiError` 400. */
export function planRequest(request: PreprocessedRequest, model: ServedModel, priorities: boolean): RequestPlan {
  const { token_ids: ids, stop_conditions, sampling_options, output_options, routing } = request;
  const { max_tokens, stop_token_ids: own = [], stop_token_ids_hidden: hidden = [], ...stops } = stop_conditions;
  const { n = 1, best_of = n, guided_decoding: _, ...sampling } = sampling_options;
  if (best_of !== n)
    throw badRequest("'best_of' other than 'n' is not supported: all choices are answered.", 'best_of');
  for (const id of ids) knownId(id, model, 'token_ids');
  const fields: SharedFields = {
    model: model.name,
    ...stops,
    ...sampling,
    stop_token_ids: own,
    skip_special_tokens: output_options.skip_special_tokens,
  };
  // Frontends do not know how much of the context is left.
  const room = Math.max(model.maxModelLen() - ids.length, 1);
  const params = samplingParams(
    {
      fields: { ...fields, stop_token_ids: [...new Set([...own, ...hidden])] },
      limit: max_tokens === undefined ? null : { tokens: Math.min(max_tokens, room), field: 'max_tokens' },
      defaultLimit: null,
      logprobs: output_options.logprobs ?? null,
      promptLogprobs: null,
    },
    model,
    ids.length,
    drawSeed,
  );
  const withText = model.tokenizer !== null && (stops.stop?.length ?? 0) + own.length > 0;
  const plan: GenerationPlan = {
    id: randomUUID(),
    // Without its tokenizer no text is made: ids are all that is sent.
    model: withText ? model : { ...model, tokenizer: null },
    prompts: [{ ids, sampling: params }],
    n,
    output: outputOptions(fields, model),
    cacheSalt: routing.cache_salt,
    // Where all are served in turn, it is a word for Dynamo's own router.
    priority: priorities ? routing.priority : undefined,
    heldTo: heldTo(request, model),
  };
  return { plan, withText, logprobs: output_options.logprobs !== undefined };
}

/** What the answer is held to. Where the prompt does not begin reasoning none comes before a grammar: the frontend need not be one that takes it out. */
function heldTo({ token_ids, stop_conditions, sampling_options }: PreprocessedRequest, model: ServedModel): HeldTo {
  const { backend: _, ...structured_outputs } = sampling_options.guided_decoding ?? {};
  const held = structuredOutput({ structured_outputs, ignore_eos: stop_conditions.ignore_eos }, model);
  const { parsers, tokenizer } = model;
  if (held.grammar === undefined || parsers.reasoning === null || tokenizer === null) return held;
  const format = THOUGHT_FORMATS[parsers.reasoning];
  const detokenizer = new Detokenizer(tokenizer, false);
  const end = token_ids.slice(-LAST_TOKENS).map((id) => detokenizer.push(id));
  const thought = thoughtBefore(format, promptThought(format, end.join(''), null), false, tokenizer);
  return thought === null ? held : { ...held, thought };
}

/** For requests that bring no seed. */
function drawSeed(): [number, number] {
  const bytes = randomBytes(8);
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
}
