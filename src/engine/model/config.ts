import * as z from 'zod';
import { GenerationConfig } from '../../protocol/generation-config.ts';
import { checked, modelError } from '../model-error.ts';
import { DecoderConfig, refuseUnsupported } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { ropeFromConfig } from './rope-config.ts';
import type { LayerSpec, ModelSpec } from './spec.ts';

const WHERE = 'config.json';

/** How one `model_type` of HF transformers differs from the others of the Llama family. */
interface Kind {
  readonly architecture: string;
  readonly qkNorm: boolean;
  /** Which projections have biases; `config`: all of q, k, v and o where `attention_bias` says so. */
  readonly bias: 'none' | 'qkv' | 'config';
  /** Which layers see a window; `config`: by `use_sliding_window`, `max_window_layers` and `layer_types`. */
  readonly window: 'none' | 'all' | 'config';
  /** Where the config names none; null = hidden_size / num_attention_heads. */
  readonly headDim: number | null;
}

const KINDS: Readonly<Record<string, Kind>> = {
  llama: { architecture: 'LlamaForCausalLM', qkNorm: false, bias: 'config', window: 'none', headDim: null },
  mistral: { architecture: 'MistralForCausalLM', qkNorm: false, bias: 'none', window: 'all', headDim: null },
  qwen2: { architecture: 'Qwen2ForCausalLM', qkNorm: false, bias: 'qkv', window: 'config', headDim: null },
  qwen3: { architecture: 'Qwen3ForCausalLM', qkNorm: true, bias: 'config', window: 'config', headDim: 128 },
};

const ACTIVATIONS: Readonly<Record<string, ModelSpec['activation']>> = {
  silu: 'silu',
  swish: 'silu',
  gelu_pytorch_tanh: 'gelu_tanh',
};

/** HF's defaults where a config leaves the field out (null means no window). */
const DEFAULT_SLIDING_WINDOW = 4096;
const DEFAULT_MAX_WINDOW_LAYERS = 28;

/**
 * The transformer that an HF `config.json` describes; `generationConfig` is its `generation_config.json`, where there is one.
 * Defaults of absent fields are those of HF transformers' `configuration_{llama,mistral,qwen2,qwen3}.py`.
 * Throws `EngineError` code `model` for other architectures and for values that this engine does not compute, by name.
 */
export function modelSpec(config: unknown, generationConfig?: unknown): ModelSpec {
  const { model_type } = checked(z.looseObject({ model_type: z.string().max(128) }), config, WHERE);
  const kind = Object.hasOwn(KINDS, model_type) ? KINDS[model_type] : undefined;
  if (!kind) {
    const known = Object.keys(KINDS).join(', ');
    throw modelError(
      WHERE,
      `model_type "${model_type}" is not supported. Supported: ${known}. Choose a model of one of these.`,
    );
  }
  const c = checked(DecoderConfig, config, WHERE);
  refuseUnsupported(c);
  if (c.architectures && !c.architectures.includes(kind.architecture)) {
    throw modelError(
      WHERE,
      `architectures ${c.architectures.join(', ')} is not supported; ${model_type} runs as ${kind.architecture}.`,
    );
  }
  const activation = Object.hasOwn(ACTIVATIONS, c.hidden_act) ? ACTIVATIONS[c.hidden_act] : undefined;
  if (!activation) {
    const known = Object.keys(ACTIVATIONS).join(', ');
    throw modelError(WHERE, `hidden_act "${c.hidden_act}" is not supported. Supported: ${known}.`);
  }
  const shape = shapeOf(c, kind);
  const rope = { ...ropeFromConfig(c), rotaryDim: shape.headDim };
  const layers = slidingWindows(c, kind).map((slidingWindow): LayerSpec => ({ rope, slidingWindow }));
  const { numLayers: _, ...sizes } = shape;
  return {
    architecture: kind.architecture,
    ...sizes,
    maxPositions: c.max_position_embeddings,
    normEps: c.rms_norm_eps,
    normOffset: 0,
    attentionScale: shape.headDim ** -0.5,
    activation,
    embedScale: 1,
    layers,
    weights: decoderWeights(shape),
    eosIds: eosIds(c, generationConfig),
    bosId: c.bos_token_id ?? null,
  };
}

function shapeOf(c: DecoderConfig, kind: Kind) {
  const numHeads = c.num_attention_heads;
  const numKvHeads = c.num_key_value_heads ?? numHeads;
  if (numHeads % numKvHeads !== 0) {
    throw modelError(WHERE, `num_attention_heads ${numHeads} is no multiple of num_key_value_heads ${numKvHeads}.`);
  }
  const headDim = c.head_dim ?? kind.headDim ?? c.hidden_size / numHeads;
  if (!Number.isInteger(headDim)) {
    throw modelError(
      WHERE,
      `hidden_size ${c.hidden_size} is no multiple of num_attention_heads ${numHeads}, and head_dim is absent.`,
    );
  }
  // Rotation pairs dimensions, and 16-bit rows are kept in whole 32-bit words.
  for (const [name, value] of [
    ['head_dim', headDim],
    ['hidden_size', c.hidden_size],
    ['intermediate_size', c.intermediate_size],
  ] as const) {
    if (value % 2 !== 0) throw modelError(WHERE, `${name} ${value} is odd; it must be even.`);
  }
  const configBias = kind.bias === 'config' && c.attention_bias === true;
  if (kind.bias === 'none' && c.attention_bias === true)
    throw modelError(WHERE, 'attention_bias = true is not supported here.');
  return {
    vocabSize: c.vocab_size,
    hiddenSize: c.hidden_size,
    numLayers: c.num_hidden_layers,
    numHeads,
    numKvHeads,
    headDim,
    intermediateSize: c.intermediate_size,
    qkNorm: kind.qkNorm,
    qkvBias: kind.bias === 'qkv' || configBias,
    oBias: configBias,
    tiedEmbeddings: c.tie_word_embeddings ?? false,
  };
}

/** Window of each layer; null = sees everything before it. */
function slidingWindows(c: DecoderConfig, kind: Kind): (number | null)[] {
  const named = c.sliding_window === undefined ? DEFAULT_SLIDING_WINDOW : c.sliding_window;
  const on = kind.window === 'all' || (kind.window === 'config' && c.use_sliding_window === true);
  const window = on ? named : null;
  const first = kind.window === 'config' ? (c.max_window_layers ?? DEFAULT_MAX_WINDOW_LAYERS) : 0;
  const plain = Array.from({ length: c.num_hidden_layers }, (_, layer) => (layer >= first ? window : null));
  if (!c.layer_types) return plain;
  if (c.layer_types.length !== c.num_hidden_layers) {
    throw modelError(
      WHERE,
      `layer_types names ${c.layer_types.length} layers, num_hidden_layers is ${c.num_hidden_layers}.`,
    );
  }
  return c.layer_types.map((type, layer) => {
    if (type !== 'full_attention' && type !== 'sliding_attention') {
      throw modelError(WHERE, `layer_types: "${type}" is not supported. Supported: full_attention, sliding_attention.`);
    }
    const slides = type === 'sliding_attention';
    if (slides && window === null)
      throw modelError(WHERE, `layer_types: layer ${layer} slides, but the config has no sliding window.`);
    if (kind.window !== 'config' && slides !== (plain[layer] !== null)) {
      throw modelError(WHERE, `layer_types: layer ${layer} is "${type}", which ${kind.architecture} does not mix.`);
    }
    return slides ? window : null;
  });
}

/** Of the file only this: wrong default sampling is no hindrance where nobody asks for it. */
const EndOfSequence = GenerationConfig.pick({ eos_token_id: true });

/** Ids that end a sequence: those of `generation_config.json` (as vLLM adds them), then those of the config. */
function eosIds(c: DecoderConfig, generationConfig: unknown): number[] {
  const generation = checked(EndOfSequence, generationConfig ?? {}, 'generation_config.json');
  const ids = [...new Set([...generation.eos_token_id, ...c.eos_token_id])];
  const outside = ids.find((id) => id >= c.vocab_size);
  if (outside !== undefined)
    throw modelError(WHERE, `eos_token_id ${outside} is not below vocab_size ${c.vocab_size}.`);
  return ids;
}
