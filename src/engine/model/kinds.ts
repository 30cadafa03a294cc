import type { RopeKind } from './rope-config.ts';
import type { ModelSpec } from './spec.ts';

/** How one `model_type` of HF transformers differs from the others of the Llama family. */
export interface Kind {
  readonly architecture: string;
  readonly qkNorm: boolean;
  /** Which projections have biases; `config`: all of q, k, v and o where `attention_bias` says so. */
  readonly bias: 'none' | 'qkv' | 'config';
  /**
   * Which layers see a window; all: every one, where `sliding_window` is set. switch: the same, where `use_sliding_window` is on.
   * config: by `use_sliding_window`, `max_window_layers` and `layer_types`. pattern: all but every nth, or by `layer_types`.
   */
  readonly window: 'none' | 'all' | 'switch' | 'config' | 'pattern';
  /** Where the config has no `sliding_window`. */
  readonly defaultWindow: number | null;
  /** Where the config names none; null = hidden_size / num_attention_heads. */
  readonly headDim: number | null;
  readonly rope: RopeKind;
  /** Where the config says nothing of it. */
  readonly tied: boolean;
  /** q, k and v are one tensor of the checkpoint, and so are gate and up. */
  readonly fused: boolean;
  /** Some layers have experts in the place of the MLP. */
  readonly experts: boolean;
  /** Norms weigh with 1 + weight, the embedding is scaled by the root of its width, attention and MLP end with norms. */
  readonly gemma: boolean;
  readonly activation: ModelSpec['activation'];
}

const ROPE: RopeKind = { theta: 10_000, localTheta: null, partial: false, aliases: {} };
const LLAMA = {
  architecture: 'LlamaForCausalLM',
  qkNorm: false,
  bias: 'config',
  window: 'none',
  defaultWindow: 4096,
  headDim: null,
  rope: ROPE,
  tied: false,
  fused: false,
  experts: false,
  gemma: false,
  activation: 'silu',
} as const satisfies Kind;

/** By `model_type`. Defaults are those of HF transformers' `configuration_*.py`. */
export const KINDS: Readonly<Record<string, Kind>> = {
  llama: LLAMA,
  mistral: { ...LLAMA, architecture: 'MistralForCausalLM', bias: 'none', window: 'all' },
  qwen2: { ...LLAMA, architecture: 'Qwen2ForCausalLM', bias: 'qkv', window: 'config' },
  qwen3: { ...LLAMA, architecture: 'Qwen3ForCausalLM', qkNorm: true, window: 'config', headDim: 128 },
  qwen3_moe: { ...LLAMA, architecture: 'Qwen3MoeForCausalLM', qkNorm: true, window: 'switch', experts: true },
  phi3: {
    ...LLAMA,
    architecture: 'Phi3ForCausalLM',
    bias: 'none',
    window: 'all',
    defaultWindow: null,
    fused: true,
    // The names that the first Phi-3 checkpoints used.
    rope: { ...ROPE, partial: true, aliases: { su: 'longrope', yarn: 'longrope' } },
  },
  gemma3_text: {
    ...LLAMA,
    architecture: 'Gemma3ForCausalLM',
    qkNorm: true,
    window: 'pattern',
    headDim: 256,
    rope: { ...ROPE, theta: 1_000_000, localTheta: 10_000 },
    tied: true,
    gemma: true,
    activation: 'gelu_tanh',
  },
};
