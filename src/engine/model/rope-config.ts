import * as z from 'zod';
import { checked, modelError } from '../model-error.ts';
import type { RopeScaling, RopeSpec } from './spec.ts';

const WHERE = 'config.json';
const positive = z.number().positive().max(1e15);
const positions = z
  .number()
  .int()
  .positive()
  .max(1 << 24);

const RopeFields = z.looseObject({
  rope_type: z.string().max(64).nullish(),
  /** The older name of `rope_type`. */
  type: z.string().max(64).nullish(),
  rope_theta: positive.nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
});

const Linear = z.looseObject({ factor: positive });
const Llama3 = z.looseObject({
  factor: positive,
  low_freq_factor: positive,
  high_freq_factor: positive,
  original_max_position_embeddings: positions,
});
const Yarn = z.looseObject({
  factor: positive.nullish(),
  attention_factor: positive.nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  truncate: z.boolean().nullish(),
  original_max_position_embeddings: positions.nullish(),
});
const LongRope = z.looseObject({
  factor: positive.nullish(),
  attention_factor: positive.nullish(),
  short_factor: z.array(positive).max(1024),
  long_factor: z.array(positive).max(1024),
  original_max_position_embeddings: positions.nullish(),
});

/** The fields of a config that say how positions turn, in both spellings. */
export const RopeConfig = z.looseObject({
  rope_theta: positive.nullish(),
  /** Theta of layers with a window, where those have one of their own. */
  rope_local_base_freq: positive.nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  max_position_embeddings: positions,
  original_max_position_embeddings: positions.nullish(),
});
export type RopeConfig = z.infer<typeof RopeConfig>;

/** What of an architecture the reading of its rope depends on. */
export interface RopeKind {
  /** Where the config names no `rope_theta`. */
  readonly theta: number;
  /** Theta of layers with a window, where the config names none; null = they turn like the others. */
  readonly localTheta: number | null;
  /** A part of a head may pass through. */
  readonly partial: boolean;
  /** Older names of rope types. */
  readonly aliases: Readonly<Record<string, string>>;
}

/** How the layers of a model turn: those that see everything, and those with a window. */
export interface Ropes {
  readonly full: RopeSpec;
  readonly sliding: RopeSpec;
}

/**
 * Theta and scaling from `rope_theta` + `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5), flat or by layer type.
 * Formulas and defaults: HF transformers `modeling_rope_utils.py`.
 * Throws `EngineError` code `model` for rope types that no formula is here for, and where both spellings disagree.
 */
export function ropesFromConfig(config: RopeConfig, kind: RopeKind, headDim: number): Ropes {
  const { rope_scaling, rope_parameters } = config;
  const theta = config.rope_theta ?? kind.theta;
  const read = (raw: Record<string, unknown>, name: string, outer: number) =>
    parse(raw, `${WHERE}: ${name}`, outer, config, kind, headDim);
  const sliding = (full: RopeSpec): RopeSpec =>
    kind.localTheta === null ? full : read({}, 'rope_local_base_freq', config.rope_local_base_freq ?? kind.localTheta);
  const nested = rope_parameters && Object.entries(rope_parameters).find(([, v]) => isRecord(v));
  if (nested) {
    const { full_attention, sliding_attention, ...rest } = rope_parameters;
    const other = Object.keys(rest)[0];
    if (kind.localTheta === null || other !== undefined || !isRecord(full_attention) || !isRecord(sliding_attention)) {
      throw modelError(
        WHERE,
        `rope_parameters.${other ?? nested[0]}: rope parameters by layer type are not supported here.`,
      );
    }
    return {
      full: read(full_attention, 'rope_parameters.full_attention', theta),
      sliding: read(
        sliding_attention,
        'rope_parameters.sliding_attention',
        config.rope_local_base_freq ?? kind.localTheta,
      ),
    };
  }
  const old = rope_scaling ? read(rope_scaling, 'rope_scaling', theta) : null;
  const current = rope_parameters ? read(rope_parameters, 'rope_parameters', theta) : null;
  if (old && current && JSON.stringify(old) !== JSON.stringify(current)) {
    throw modelError(WHERE, 'rope_scaling and rope_parameters say different things. Keep one of them.');
  }
  const full = current ?? old ?? read({}, 'rope', theta);
  return { full, sliding: sliding(full) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parse(
  raw: Record<string, unknown>,
  where: string,
  outerTheta: number,
  config: RopeConfig,
  kind: RopeKind,
  headDim: number,
): RopeSpec {
  const nested = Object.entries(raw).find(([, value]) => isRecord(value));
  if (nested) throw modelError(where, `${nested[0]} is an object; rope parameters are numbers, words and lists.`);
  const fields = checked(RopeFields, raw, where);
  const named = fields.rope_type ?? fields.type ?? 'default';
  const type = Object.hasOwn(kind.aliases, named) ? (kind.aliases[named] as string) : named;
  const rotaryDim = rotaryDims(fields.partial_rotary_factor ?? config.partial_rotary_factor ?? 1, kind, headDim);
  return {
    theta: fields.rope_theta ?? outerTheta,
    rotaryDim,
    ...scalingOf(type, raw, where, config, rotaryDim),
  };
}

function rotaryDims(factor: number, kind: RopeKind, headDim: number): number {
  if (factor === 1) return headDim;
  if (!kind.partial)
    throw modelError(WHERE, `partial_rotary_factor ${factor} is not supported for this architecture, only 1.`);
  const dims = Math.trunc(headDim * factor);
  if (dims < 2 || dims % 2 !== 0)
    throw modelError(
      WHERE,
      `partial_rotary_factor ${factor} turns ${dims} of ${headDim} dimensions; it must be an even number.`,
    );
  return dims;
}

function scalingOf(
  type: string,
  raw: unknown,
  where: string,
  config: RopeConfig,
  rotaryDim: number,
): { scaling: RopeScaling; attentionFactor: number } {
  switch (type) {
    case 'default':
    // NTK scaling begins beyond max_position_embeddings, and a context never does.
    case 'dynamic':
      return { scaling: { kind: 'default' }, attentionFactor: 1 };
    case 'linear':
      return { scaling: { kind: 'linear', factor: checked(Linear, raw, where).factor }, attentionFactor: 1 };
    case 'llama3':
      return { scaling: llama3(raw, where), attentionFactor: 1 };
    case 'yarn':
      return yarn(raw, where, config);
    case 'longrope':
      return longRope(raw, where, config, rotaryDim);
    default:
      throw modelError(
        where,
        `rope type "${type}" is not supported. Supported: default, linear, dynamic, llama3, yarn, longrope.`,
      );
  }
}

function llama3(raw: unknown, where: string): RopeScaling {
  const c = checked(Llama3, raw, where);
  if (c.high_freq_factor <= c.low_freq_factor) throw modelError(where, 'high_freq_factor must exceed low_freq_factor.');
  return {
    kind: 'llama3',
    factor: c.factor,
    lowFreqFactor: c.low_freq_factor,
    highFreqFactor: c.high_freq_factor,
    originalMaxPositions: c.original_max_position_embeddings,
  };
}

function yarn(raw: unknown, where: string, config: RopeConfig): { scaling: RopeScaling; attentionFactor: number } {
  const c = checked(Yarn, raw, where);
  const originalMaxPositions = c.original_max_position_embeddings ?? config.max_position_embeddings;
  const factor = c.factor ?? config.max_position_embeddings / originalMaxPositions;
  const mscale = (scale = 1) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const byScales = c.mscale && c.mscale_all_dim ? mscale(c.mscale) / mscale(c.mscale_all_dim) : mscale();
  return {
    scaling: {
      kind: 'yarn',
      factor,
      betaFast: c.beta_fast ?? 32,
      betaSlow: c.beta_slow ?? 1,
      originalMaxPositions,
      truncate: c.truncate ?? true,
    },
    attentionFactor: c.attention_factor ?? byScales,
  };
}

/**
 * One set of divisors for all sequences, as in vLLM: the long ones where the model's context is longer than the original one. K and V of
 * a block are then the same in every sequence, which the prefix cache rests on.
 */
function longRope(
  raw: unknown,
  where: string,
  config: RopeConfig,
  rotaryDim: number,
): { scaling: RopeScaling; attentionFactor: number } {
  const c = checked(LongRope, raw, where);
  const context = config.max_position_embeddings;
  const original = config.original_max_position_embeddings ?? c.original_max_position_embeddings ?? context;
  const factors = context > original ? c.long_factor : c.short_factor;
  if (factors.length !== rotaryDim / 2) {
    throw modelError(where, `names ${factors.length} factors for ${rotaryDim / 2} pairs of dimensions.`);
  }
  const factor = c.factor ?? context / original;
  const stretched = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
  return { scaling: { kind: 'longrope', factors }, attentionFactor: c.attention_factor ?? stretched };
}
