import { type Pooling, writeEmbedding } from '../protocol/pooling.ts';
import { EngineError } from './api.ts';
import type { StepResult } from './runner.ts';
import type { SequenceUpdate } from './sequence.ts';

/** Below it a length divides no more (PyTorch's `F.normalize`). */
const LEAST_LENGTH = 1e-12;

/**
 * The embedding of a prompt of so many tokens. pooled: [hidden], what `pool.wgsl` gives: the last token's values, or the sums of all.
 * Cut, then normalized, in float64: vLLM's order.
 */
export function embeddingOf(
  pooled: Float32Array,
  tokens: number,
  { type, normalize, dimensions }: Pooling,
): Float32Array {
  const values = Float64Array.from(pooled.subarray(0, dimensions), (value) =>
    type === 'MEAN' ? value / tokens : value,
  );
  if (!normalize) return Float32Array.from(values);
  const length = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return Float32Array.from(values, (value) => value / Math.max(length, LEAST_LENGTH));
}

/** What a step's result has of an embedding, as messages carry it; undefined of a sequence that is not pooled, null where a value is no finite number. */
export function embeddingText(
  { sequence, sample }: Pick<SequenceUpdate, 'sequence' | 'sample'>,
  result: Pick<StepResult, 'pooled'>,
): string | null | undefined {
  if (sequence.pooling === null) return undefined;
  const values = embeddingOf(result.pooled(sample), sequence.promptLength, sequence.pooling);
  return values.every(Number.isFinite) ? writeEmbedding(values) : null;
}

/** Why a request has no embedding though it was computed. */
export function noNumbers(): EngineError {
  const message = 'The embedding came out with values that are no numbers. The GPU or its driver computes wrong.';
  return new EngineError('internal', message);
}
