import * as z from 'zod';
import { EosTokenIds } from '../../protocol/generation-config.ts';
import { TokenId } from '../../protocol/sampling.ts';
import { modelError } from '../model-error.ts';
import type { Kind } from './kinds.ts';
import { RopeConfig } from './rope-config.ts';

/** Bounds of untrusted sizes: above every published model of these kinds, below what overflows 2^53 when multiplied. */
const upTo = (max: number) => z.number().int().min(1).max(max);

/** The fields of a Llama-like HF `config.json` that the computation depends on; others are ignored, unless `refuseUnsupported` knows them. */
export const DecoderConfig = RopeConfig.extend({
  model_type: z.string().max(128),
  architectures: z.array(z.string().max(128)).max(16).nullish(),
  vocab_size: upTo(1 << 21),
  hidden_size: upTo(1 << 16),
  intermediate_size: upTo(1 << 20),
  num_hidden_layers: upTo(1024),
  num_attention_heads: upTo(1024),
  num_key_value_heads: upTo(1024).nullish(),
  head_dim: upTo(1024).nullish(),
  rms_norm_eps: z.number().positive().max(1).default(1e-6),
  hidden_act: z.string().max(64).nullish(),
  /** Gemma's name of it. */
  hidden_activation: z.string().max(64).nullish(),
  query_pre_attn_scalar: z
    .number()
    .positive()
    .max(1 << 16)
    .nullish(),
  attn_logit_softcapping: z.number().positive().max(1e6).nullish(),
  final_logit_softcapping: z.number().positive().max(1e6).nullish(),
  attention_bias: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  use_sliding_window: z.boolean().nullish(),
  sliding_window: upTo(1 << 24).nullish(),
  max_window_layers: z.number().int().min(0).nullish(),
  sliding_window_pattern: upTo(1024).nullish(),
  _sliding_window_pattern: upTo(1024).nullish(),
  layer_types: z.array(z.string().max(64)).max(1024).nullish(),
  eos_token_id: EosTokenIds,
  bos_token_id: TokenId.nullish(),
});
export type DecoderConfig = z.infer<typeof DecoderConfig>;

/** Fields that change what a model computes in a way this engine does not: all values but null and the neutral one are refused. */
const NEUTRAL: Readonly<Record<string, number | boolean | null>> = {
  quantization_config: null,
  compression_config: null,
  text_config: null,
  vision_config: null,
  mlp_bias: false,
  use_bidirectional_attention: false,
  attn_logit_softcapping: null,
  final_logit_softcapping: null,
  is_causal: true,
  alibi: false,
  num_experts: 0,
  num_local_experts: 0,
  embedding_multiplier: 1,
  residual_multiplier: 1,
  attention_multiplier: null,
  logits_scaling: 1,
  logit_scale: 1,
};

/** Throws `EngineError` code `model` that names the first field which asks for what this engine does not compute. */
export function refuseUnsupported(config: Readonly<Record<string, unknown>>, kind: Kind): void {
  const fields = Object.entries(NEUTRAL).filter(([field]) => !computed(field, kind));
  for (const [field, neutral] of fields) {
    const value = config[field];
    if (value === undefined || value === null || value === neutral) continue;
    const shown = JSON.stringify(value).slice(0, 100);
    const what =
      field === 'quantization_config' ? 'is a quantized checkpoint; use an unquantized one.' : 'is not supported.';
    throw modelError('config.json', `${field} = ${shown} ${what}`);
  }
}

/** Whether an architecture computes by the field, so that its values are no reason to refuse it. */
function computed(field: string, kind: Kind): boolean {
  if (field.endsWith('_softcapping')) return kind.gemma;
  return kind.experts && field.endsWith('_experts');
}
