import * as z from 'zod';
import { checked, modelError } from '../model-error.ts';
import type { DecoderConfig } from './config-schema.ts';
import type { ExpertsSpec } from './spec.ts';

const WHERE = 'config.json';
const upTo = (max: number) => z.number().int().min(1).max(max);

/** HF's `configuration_qwen3_moe.py`, its defaults included. */
const ExpertsConfig = z.looseObject({
  num_experts: upTo(1024).nullish(),
  num_local_experts: upTo(1024).nullish(),
  num_experts_per_tok: upTo(64).default(8),
  moe_intermediate_size: upTo(1 << 20).default(768),
  norm_topk_prob: z.boolean().default(false),
  decoder_sparse_step: upTo(1024).default(1),
  mlp_only_layers: z.array(z.number().int().min(0)).max(1024).nullish(),
});
const DEFAULT_EXPERTS = 128;

/** The experts of each layer; null = a dense MLP. Throws `EngineError` code `model` for sizes that do not fit each other. */
export function expertLayers(config: DecoderConfig): (ExpertsSpec | null)[] {
  const c = checked(ExpertsConfig, config, WHERE);
  const experts: ExpertsSpec = {
    count: c.num_experts ?? c.num_local_experts ?? DEFAULT_EXPERTS,
    perToken: c.num_experts_per_tok,
    intermediateSize: c.moe_intermediate_size,
    normalized: c.norm_topk_prob,
  };
  if (experts.perToken > experts.count) {
    throw modelError(WHERE, `num_experts_per_tok ${experts.perToken} is more than the ${experts.count} experts.`);
  }
  if (experts.intermediateSize % 2 !== 0)
    throw modelError(WHERE, `moe_intermediate_size ${experts.intermediateSize} is odd; it must be even.`);
  const dense = new Set(c.mlp_only_layers ?? []);
  return Array.from({ length: config.num_hidden_layers }, (_, layer) =>
    dense.has(layer) || (layer + 1) % c.decoder_sparse_step !== 0 ? null : experts,
  );
}
