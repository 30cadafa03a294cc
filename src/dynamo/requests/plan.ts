import { randomBytes, randomUUID } from 'node:crypto';
import type { ServedModel } from '../../frontend/backend.ts';
import { Detokenizer } from '../../frontend/detokenizer.ts';
import { badRequest } from '../../frontend/errors.ts';
import type { GenerationPlan } from '../../frontend/generation.ts';
import { structuredGrammar } from '../../frontend/grammar/structured-output.ts';
import { THOUGHT_FORMATS } from '../../frontend/parsers/model-parsers.ts';
import { promptThought } from '../../frontend/parsers/thought.ts';
import type { SharedFields } from '../../frontend/request-fields.ts';
import { knownId, outputOptions, samplingParams } from '../../frontend/sampling-params.ts';
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

/** Plans a request for a model; what computes is `backend`. Throws `ApiError` 400. */
export function planRequest(request: PreprocessedRequest, model: ServedModel): RequestPlan {
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
    priority: undefined,
    grammar: grammarOf(request, model),
  };
  return { plan, withText, logprobs: output_options.logprobs !== undefined };
}

/** What the answer is held to; null = nothing. */
function grammarOf(
  { token_ids, stop_conditions, sampling_options }: PreprocessedRequest,
  model: ServedModel,
): string | null {
  const { min_tokens, ignore_eos } = stop_conditions;
  const { backend: _, ...structured_outputs } = sampling_options.guided_decoding ?? {};
  const grammar = structuredGrammar({ structured_outputs, min_tokens, ignore_eos }, model);
  if (grammar !== null && beginsWithReasoning(token_ids, model))
    throw badRequest(
      'This model begins with reasoning, which cannot be held to a grammar. Turn it off where the template knows how, as by \'chat_template_kwargs\': {"enable_thinking": false}.',
    );
  return grammar;
}

/** Whether an answer to the prompt is reasoning first. */
function beginsWithReasoning(ids: readonly number[], { parsers, tokenizer }: ServedModel): boolean {
  if (parsers.reasoning === null || tokenizer === null) return false;
  const format = THOUGHT_FORMATS[parsers.reasoning];
  const detokenizer = new Detokenizer(tokenizer, false);
  const end = ids.slice(-LAST_TOKENS).map((id) => detokenizer.push(id));
  const thought = promptThought(format, end.join(''), null);
  return thought === 'open' || (format.assumed && thought === 'unsaid');
}

/** For requests that bring no seed. */
function drawSeed(): [number, number] {
  const bytes = randomBytes(8);
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
}
