import * as z from 'zod';
import { checked, modelError } from '../model-error.ts';
import type { TensorInfo } from '../weights/tensor-types.ts';
import type { GgufContent } from './header.ts';
import type { GgufMetadata } from './types.ts';

/** `general.architecture` by the `model_type` that HF transformers gives the same model. */
const MODEL_TYPES: Readonly<Record<string, string>> = {
  llama: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  qwen3moe: 'qwen3_moe',
  gemma3: 'gemma3_text',
  phi3: 'phi3',
};

const whole = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const positive = z.number().positive().max(1e15);

/** Metadata of an architecture, without its prefix: ggml's `docs/gguf.md` and llama.cpp's `gguf-py/gguf/constants.py`. */
const Fields = z.object({
  context_length: whole,
  embedding_length: whole,
  block_count: whole,
  feed_forward_length: whole.optional(),
  vocab_size: whole.optional(),
  'attention.head_count': whole,
  'attention.head_count_kv': whole.optional(),
  'attention.key_length': whole.optional(),
  'attention.value_length': whole.optional(),
  'attention.layer_norm_rms_epsilon': positive,
  'attention.sliding_window': whole.optional(),
  /** Every nth layer sees everything; or for each layer whether it has a window. */
  'attention.sliding_window_pattern': z.union([whole.min(1), z.array(z.boolean()).max(1024)]).optional(),
  attn_logit_softcapping: positive.optional(),
  final_logit_softcapping: positive.optional(),
  'rope.dimension_count': whole.optional(),
  'rope.freq_base': positive.optional(),
  'rope.freq_base_swa': positive.optional(),
  'rope.scale_linear': positive.optional(),
  'rope.scaling.type': z.enum(['none', 'linear', 'yarn', 'longrope']).optional(),
  'rope.scaling.factor': positive.optional(),
  'rope.scaling.attn_factor': positive.optional(),
  'rope.scaling.original_context_length': whole.optional(),
  'rope.scaling.yarn_beta_fast': positive.optional(),
  'rope.scaling.yarn_beta_slow': positive.optional(),
  expert_count: whole.optional(),
  expert_used_count: whole.optional(),
  expert_feed_forward_length: whole.optional(),
});
type Fields = z.infer<typeof Fields>;

/** Metadata that change what a model computes in a way this engine does not: values other than these are refused. */
const NEUTRAL: Readonly<Record<string, unknown>> = {
  expert_shared_count: 0,
  expert_group_count: 0,
  leading_dense_block_count: 0,
  logit_scale: 1,
  residual_scale: 1,
  embedding_scale: 1,
  'attention.scale': undefined,
  'attention.causal': true,
  'attention.temperature_scale': undefined,
  'rope.scaling.finetuned': undefined,
};
const PATTERN = 'attention.sliding_window_pattern';
/** Of those, what changes nothing whatever it says. */
const HARMLESS = new Set(['rope.scaling.finetuned']);

/** What a GGUF file says of its model, as HF's `config.json` would, and what that has no words for. */
export interface GgufConfig {
  readonly architecture: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** The tensor with the divisors of the rope frequencies, and what multiplies the turned dimensions with it. */
  readonly ropeFactors: { readonly tensor: TensorInfo; readonly attentionFactor: number } | null;
}

/** Reads the metadata of a model. Throws `EngineError` code `model` for architectures and values that this engine does not compute, by name. */
export function ggufConfig({ metadata, tensors }: GgufContent, file: string): GgufConfig {
  const architecture = architectureOf(metadata, file);
  const raw = Object.fromEntries(
    [...metadata]
      .filter(([key]) => key.startsWith(`${architecture}.`))
      .map(([key, value]) => [key.slice(architecture.length + 1), value]),
  );
  refuseOdd(raw, architecture, file);
  const f = checked(Fields, raw, `${file}: metadata of ${architecture}`);
  const find = (name: string) => tensors.find((tensor) => tensor.name === name);
  const heads = f['attention.head_count'];
  const headDim = f['attention.key_length'] ?? f.embedding_length / heads;
  if ((f['attention.value_length'] ?? headDim) !== headDim)
    throw modelError(
      file,
      `its keys have ${headDim} dimensions, its values ${f['attention.value_length']}; they must be as many.`,
    );
  const embedding = find('token_embd.weight');
  const vocabSize = embedding?.shape[0] ?? f.vocab_size;
  const window = f['attention.sliding_window'] || undefined;
  const turned = f['rope.dimension_count'] ?? headDim;
  const original = f['rope.scaling.original_context_length'] || undefined;
  const model_type = architecture === 'llama' && window !== undefined ? 'mistral' : MODEL_TYPES[architecture];
  const config = {
    model_type,
    vocab_size: vocabSize,
    hidden_size: f.embedding_length,
    intermediate_size: f.feed_forward_length || f.expert_feed_forward_length,
    num_hidden_layers: f.block_count,
    num_attention_heads: heads,
    num_key_value_heads: f['attention.head_count_kv'] ?? heads,
    head_dim: headDim,
    rms_norm_eps: f['attention.layer_norm_rms_epsilon'],
    max_position_embeddings: f.context_length,
    ...(original && { original_max_position_embeddings: original }),
    ...(f['rope.freq_base'] && { rope_theta: f['rope.freq_base'] }),
    ...(f['rope.freq_base_swa'] && { rope_local_base_freq: f['rope.freq_base_swa'] }),
    ...(turned !== headDim && { partial_rotary_factor: turned / headDim }),
    rope_scaling: ropeScaling(f),
    sliding_window: window ?? null,
    ...slidingLayers(f),
    attention_bias: architecture === 'llama' && find('blk.0.attn_q.bias') !== undefined,
    tie_word_embeddings: find('output.weight') === undefined,
    attn_logit_softcapping: f.attn_logit_softcapping ?? null,
    final_logit_softcapping: f.final_logit_softcapping ?? null,
    ...(architecture === 'gemma3' && { query_pre_attn_scalar: gemmaQueryScalar(f, headDim) }),
    ...experts(f, architecture, file),
    ...endAndBegin(metadata),
  };
  return { architecture, config, ropeFactors: ropeFactors(f, find) };
}

function architectureOf(metadata: GgufMetadata, file: string): string {
  const architecture = metadata.get('general.architecture');
  if (typeof architecture === 'string' && Object.hasOwn(MODEL_TYPES, architecture)) return architecture;
  throw modelError(
    file,
    `general.architecture ${JSON.stringify(architecture)?.slice(0, 100)} is not supported. Supported: ${Object.keys(MODEL_TYPES).join(', ')}.`,
  );
}

function refuseOdd(raw: Readonly<Record<string, unknown>>, architecture: string, file: string): void {
  for (const [key, neutral] of Object.entries(NEUTRAL)) {
    const value = raw[key];
    if (value === undefined || value === neutral || HARMLESS.has(key)) continue;
    throw modelError(file, `${architecture}.${key} = ${JSON.stringify(value).slice(0, 100)} is not supported.`);
  }
  const lists = Object.entries(raw).find(
    ([key, value]) => Array.isArray(value) && Object.hasOwn(Fields.shape, key) && key !== PATTERN,
  );
  if (lists) throw modelError(file, `${architecture}.${lists[0]} differs from layer to layer, which is not supported.`);
}

function slidingLayers(f: Fields): Record<string, unknown> {
  const pattern = f[PATTERN];
  if (pattern === undefined) return {};
  if (typeof pattern === 'number') return { sliding_window_pattern: pattern };
  return { layer_types: pattern.map((slides) => (slides ? 'sliding_attention' : 'full_attention')) };
}

function ropeScaling(f: Fields): Record<string, unknown> | null {
  const type = f['rope.scaling.type'] ?? (f['rope.scale_linear'] ? 'linear' : 'none');
  const factor = f['rope.scaling.factor'] ?? f['rope.scale_linear'] ?? 1;
  if (type === 'linear') return { rope_type: 'linear', factor };
  // The divisors of longrope are tensors.
  if (type !== 'yarn') return null;
  const own = f['rope.scaling.attn_factor'];
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: f['rope.scaling.original_context_length'] || f.context_length,
    beta_fast: f['rope.scaling.yarn_beta_fast'] ?? 32,
    beta_slow: f['rope.scaling.yarn_beta_slow'] ?? 1,
    // ggml's rope_yarn multiplies its own factor with yarn's.
    ...(own && { attention_factor: own * (factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1) }),
  };
}

/** llama 3 has one tensor of divisors, Phi-3 one for the original and one for the longer context (as in `rope-config.ts`). */
function ropeFactors(f: Fields, find: (name: string) => TensorInfo | undefined): GgufConfig['ropeFactors'] {
  const original = f['rope.scaling.original_context_length'] || f.context_length;
  const long = f.context_length > original;
  const phi = find(long ? 'rope_factors_long.weight' : 'rope_factors_short.weight');
  if (phi) {
    const factor = f.context_length / original;
    const stretched = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
    return { tensor: phi, attentionFactor: f['rope.scaling.attn_factor'] ?? stretched };
  }
  const llama = find('rope_freqs.weight');
  return llama ? { tensor: llama, attentionFactor: 1 } : null;
}

/** As llama.cpp: the 27B model, the one of 62 layers, scales by the width of all heads' share; the others by a head's. */
function gemmaQueryScalar(f: Fields, headDim: number): number {
  return f.block_count === 62 ? f.embedding_length / f['attention.head_count'] : headDim;
}

function experts(f: Fields, architecture: string, file: string): Record<string, unknown> {
  const count = f.expert_count ?? 0;
  if (architecture !== 'qwen3moe') {
    if (count === 0) return {};
    throw modelError(file, `${architecture}.expert_count = ${count}: experts are supported for qwen3moe alone.`);
  }
  return {
    num_experts: count,
    num_experts_per_tok: f.expert_used_count,
    moe_intermediate_size: f.expert_feed_forward_length,
    // llama.cpp's graph of this architecture always does.
    norm_topk_prob: true,
  };
}

/** Texts that end an answer whatever the file's ids say: converters often name one of several. As llama.cpp's `llama-vocab.cpp`. */
const ENDS = new Set([
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|eom_id|>',
  '<|end_of_text|>',
]);
const CONTROL = 3;

function endAndBegin(metadata: GgufMetadata): { eos_token_id: number[]; bos_token_id: number | null } {
  const id = (name: string): number[] => {
    const value = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof value === 'number' ? [value] : [];
  };
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const types = metadata.get('tokenizer.ggml.token_type');
  const named =
    Array.isArray(tokens) && Array.isArray(types)
      ? tokens.flatMap((token, i) => (typeof token === 'string' && ENDS.has(token) && types[i] === CONTROL ? [i] : []))
      : [];
  const ends = new Set([...id('eos'), ...id('eot'), ...id('eom'), ...named]);
  return { eos_token_id: [...ends], bos_token_id: id('bos')[0] ?? null };
}
