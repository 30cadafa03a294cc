import { expect } from 'vitest';
import { EngineError } from '../../../src/engine/api.ts';
import { modelSpec } from '../../../src/engine/model/config.ts';

/** Sizes that all tests below share; each adds what it is about. */
export const SIZES = {
  vocab_size: 384,
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 512,
};
export const llama = (more: object = {}) => ({ model_type: 'llama', ...SIZES, ...more });

export function refusal(config: unknown, generationConfig?: unknown): string {
  try {
    modelSpec(config, generationConfig);
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    expect((error as EngineError).code).toBe('model');
    return (error as EngineError).message;
  }
  throw new Error('was not refused');
}
