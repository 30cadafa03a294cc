import type { GenerateRequest } from '../../protocol/generate.ts';
import { GREEDY } from '../../protocol/sampling.ts';
import type { ModelFolder } from '../model-folder.ts';
import { HubStartError } from '../start-error.ts';
import type { CanaryPayload } from './payload.ts';

/** Where a model has no BOS. */
const SOME_TOKEN = 1;

/** A payload as a request to nodes of one model: of one for embeddings it asks that of the prompt. Throws `HubStartError` for a text without a tokenizer, or ids that the model has not. */
export function canaryRequest(
  { prompt, maxTokens, temperature }: CanaryPayload,
  { spec, tokenizer, name, pooler }: Pick<ModelFolder, 'spec' | 'tokenizer' | 'name' | 'pooler'>,
): Omit<GenerateRequest, 'request'> {
  const ids = idsOf();
  const bad = ids.find((id) => id >= spec.vocabSize);
  if (bad !== undefined)
    throw new HubStartError(`--health-check-payload: token ${bad} is outside the ${spec.vocabSize} of ${name}.`);
  return {
    prompt: [...ids],
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, temperature, maxTokens },
    ...(pooler && { pooling: { type: pooler.type, normalize: pooler.normalize, dimensions: spec.hiddenSize } }),
    cache: false,
  };

  function idsOf(): readonly number[] {
    if (prompt === null) return [spec.bosId ?? SOME_TOKEN];
    if (typeof prompt !== 'string') return prompt;
    if (tokenizer === null)
      throw new HubStartError(
        `--health-check-payload: a prompt in words needs the tokenizer of ${name}. Give token_ids, or leave --skip-tokenizer-init out.`,
      );
    return tokenizer.encode(prompt, true);
  }
}
