import * as z from 'zod';
import { PoolingType } from '../protocol/pooling.ts';

/** vLLM's `--pooler-config`: the parts of it that mean something here, by vLLM's names. What is left out is as the model has it. */
export const PoolerConfig = z.strictObject({
  pooling_type: z
    .enum(PoolingType.options, { error: 'expected "LAST" or "MEAN": prompts are pooled in no other way here' })
    .optional(),
  /** Embeddings are normalized. */
  use_activation: z.boolean().optional(),
});
export type PoolerConfig = z.infer<typeof PoolerConfig>;

/** `--runner` and `--pooler-config`. */
export interface PoolerWish {
  readonly runner: 'auto' | 'generate' | 'pooling';
  readonly config: PoolerConfig | null;
}
