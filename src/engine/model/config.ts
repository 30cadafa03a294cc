import * as z from 'zod';
import { GenerationConfig } from '../../protocol/generation-config.ts';
import { checked, modelError } from '../model-error.ts';
import { DecoderConfig, refuseUnsupported } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { expertLayers } from './experts.ts';
import { KINDS, type Kind } from './kinds.ts';
import { pooledSpec } from './pooled-spec.ts';
import { ropesFromConfig } from './rope-config.ts';
import type { LayerSpec, ModelSpec } from './spec.ts';
import { slidingWindows } from './windows.ts';

const WHERE = 'config.json';

const ACTIVATIONS: Readonly<Record<string, ModelSpec['activation']>> = {
  silu: 'silu',
  swish: 'silu',
  gelu_pytorch_tanh: 'gelu_tanh',
};

/**
 * The transformer that an HF `config.json` describes; `generationConfig` is its `generation_config.json`, where there is one.
 * pools: it shall give embeddings. Defaults of absent fields are those of HF transformers' `configuration_*.py`.
 * Throws `EngineError` code `model` for other architectures and for values that this engine does not compute, by name.
 */
export function modelSpec(config: unknown, generationConfig?: unknown, pools = false): ModelSpec {
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
  refuseUnsupported(c, kind);
  checkArchitecture(c, kind, pools);
  const shape = shapeOf(c, kind);
  const ropes = ropesFromConfig(c, kind.rope, shape.headDim);
  const experts = kind.experts ? expertLayers(c) : [];
  const layers = slidingWindows(c, kind).map(
    (slidingWindow, i): LayerSpec => ({
      rope: slidingWindow === null ? ropes.full : ropes.sliding,
      slidingWindow,
      experts: experts[i] ?? null,
    }),
  );
  const scaledBy = kind.gemma ? (c.query_pre_attn_scalar ?? DEFAULT_QUERY_SCALAR) : shape.headDim;
  const spec: ModelSpec = {
    architecture: kind.architecture,
    ...shape,
    pools: false,
    maxPositions: c.max_position_embeddings,
    normEps: c.rms_norm_eps,
    normOffset: kind.gemma ? 1 : 0,
    attentionScale: scaledBy ** -0.5,
    attentionSoftcap: c.attn_logit_softcapping ?? 0,
    logitSoftcap: c.final_logit_softcapping ?? 0,
    activation: activationOf(c, kind),
    embedScale: kind.gemma ? Math.sqrt(c.hidden_size) : 1,
    layers,
    weights: decoderWeights({ ...shape, layers, fused: kind.fused }),
    eosIds: eosIds(c, generationConfig),
    bosId: c.bos_token_id ?? null,
  };
  return pools ? pooledSpec(spec) : spec;
}

/** Checkpoints of embedding models may be of the model without its head (`Qwen3Model`). */
function checkArchitecture({ architectures, model_type }: DecoderConfig, { architecture }: Kind, pools: boolean): void {
  const headless = architecture.replace(/ForCausalLM$/, 'Model');
  if (!architectures || architectures.includes(architecture)) return;
  if (architectures.includes(headless)) {
    if (pools) return;
    throw modelError(
      WHERE,
      `architectures ${headless} has no head and generates nothing. Start with --runner pooling for its embeddings.`,
    );
  }
  throw modelError(
    WHERE,
    `architectures ${architectures.join(', ')} is not supported; ${model_type} runs as ${architecture}.`,
  );
}

/** HF's `configuration_gemma3.py`. */
const DEFAULT_QUERY_SCALAR = 256;

function activationOf(c: DecoderConfig, kind: Kind): ModelSpec['activation'] {
  const field = kind.gemma ? 'hidden_activation' : 'hidden_act';
  const named = c[field];
  if (named === null || named === undefined) return kind.activation;
  const activation = Object.hasOwn(ACTIVATIONS, named) ? ACTIVATIONS[named] : undefined;
  if (activation) return activation;
  const known = Object.keys(ACTIVATIONS).join(', ');
  throw modelError(WHERE, `${field} "${named}" is not supported. Supported: ${known}.`);
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
    numHeads,
    numKvHeads,
    headDim,
    intermediateSize: c.intermediate_size,
    qkNorm: kind.qkNorm,
    qkvBias: kind.bias === 'qkv' || configBias,
    oBias: configBias,
    outNorms: kind.gemma,
    tiedEmbeddings: c.tie_word_embeddings ?? kind.tied,
  };
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
