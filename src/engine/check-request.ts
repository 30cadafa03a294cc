import type { GenerateRequest } from '../protocol/generate.ts';
import { EngineError, type EngineInfo } from './api.ts';

/** Throws `EngineError` code `invalid_request` for what an engine can never do: ids that its model has not, LoRA adapters that it has not, tokens or embeddings where it gives the other. */
export function checkRequest(
  { prompt, embeds, pooling, loraName }: GenerateRequest,
  { vocabSize, hiddenSize, pools }: EngineInfo,
  loraNames: readonly string[],
): void {
  const refuse = (why: string): never => {
    throw new EngineError('invalid_request', why);
  };
  const bad = embeds ? undefined : prompt.find((id) => id >= vocabSize);
  if (bad !== undefined) refuse(`Token id ${bad} is outside the vocabulary of ${vocabSize} ids.`);
  if (!pools && pooling) refuse('This engine generates, and gives no embeddings.');
  if (pools && !pooling) refuse('This engine gives embeddings, and generates nothing.');
  if (pooling && pooling.dimensions > hiddenSize)
    refuse(`Embeddings have ${hiddenSize} values, not ${pooling.dimensions}.`);
  if (loraName !== undefined && !loraNames.includes(loraName))
    refuse(`This engine has no LoRA adapter ${loraName}. Load it, then ask again.`);
}
