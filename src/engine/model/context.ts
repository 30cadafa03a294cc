import { EngineError } from '../api.ts';
import type { ModelSpec } from './spec.ts';

/** Longest sequence in tokens: `asked` (--max-model-len), or all that the model was made for. Throws `EngineError` code `model` at more. */
export function longestSequence({ maxPositions }: Pick<ModelSpec, 'maxPositions'>, asked: number | null): number {
  if (asked === null || asked <= maxPositions) return asked ?? maxPositions;
  throw new EngineError(
    'model',
    `--max-model-len ${asked} is more than the ${maxPositions} tokens that the model was made for. Lower it, or leave it out.`,
  );
}
