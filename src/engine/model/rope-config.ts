import * as z from 'zod';
import { checked, modelError } from '../model-error.ts';
import type { RopeScaling } from './spec.ts';

const WHERE = 'config.json';
const positive = z.number().positive().max(1e15);

const RopeFields = z.looseObject({
  rope_type: z.string().max(64).nullish(),
  /** The older name of `rope_type`. */
  type: z.string().max(64).nullish(),
  rope_theta: positive.nullish(),
  partial_rotary_factor: z.number().nullish(),
});

const Linear = z.looseObject({ factor: positive });
const Llama3 = z.looseObject({
  factor: positive,
  low_freq_factor: positive,
  high_freq_factor: positive,
  original_max_position_embeddings: z.number().int().positive(),
});

/** The fields of a config that say how positions turn, in both spellings. */
export const RopeConfig = z.looseObject({
  rope_theta: positive.nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  partial_rotary_factor: z.number().nullish(),
});
export type RopeConfig = z.infer<typeof RopeConfig>;

/** HF's default where a config names no `rope_theta`. */
const DEFAULT_THETA = 10_000;

/**
 * Theta and scaling from `rope_theta` + `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
 * Throws `EngineError` code `model` for rope types that no formula is here for, and where both spellings disagree.
 */
export function ropeFromConfig(config: RopeConfig): { theta: number; scaling: RopeScaling } {
  const { rope_scaling, rope_parameters } = config;
  const theta = config.rope_theta ?? undefined;
  const old = rope_scaling ? parse(rope_scaling, 'rope_scaling', theta) : null;
  const current = rope_parameters ? parse(rope_parameters, 'rope_parameters', theta) : null;
  if (old && current && JSON.stringify(old) !== JSON.stringify(current)) {
    throw modelError(WHERE, 'rope_scaling and rope_parameters say different things. Keep one of them.');
  }
  refusePartial(config.partial_rotary_factor);
  return current ?? old ?? { theta: theta ?? DEFAULT_THETA, scaling: { kind: 'default' } };
}

function parse(raw: Record<string, unknown>, name: string, outerTheta: number | undefined) {
  const nested = Object.entries(raw).find(([, value]) => typeof value === 'object' && value !== null);
  if (nested) throw modelError(WHERE, `${name}.${nested[0]}: rope parameters per layer type are not supported here.`);
  const fields = checked(RopeFields, raw, `${WHERE}: ${name}`);
  refusePartial(fields.partial_rotary_factor);
  const type = fields.rope_type ?? fields.type ?? 'default';
  return {
    theta: fields.rope_theta ?? outerTheta ?? DEFAULT_THETA,
    scaling: scalingOf(type, raw, `${WHERE}: ${name}`),
  };
}

function refusePartial(factor: number | null | undefined): void {
  if (factor == null || factor === 1) return;
  throw modelError(WHERE, `partial_rotary_factor ${factor} is not supported for this architecture, only 1.`);
}

function scalingOf(type: string, raw: unknown, where: string): RopeScaling {
  if (type === 'default') return { kind: 'default' };
  if (type === 'linear') return { kind: 'linear', factor: checked(Linear, raw, where).factor };
  if (type === 'llama3') {
    const c = checked(Llama3, raw, where);
    if (c.high_freq_factor <= c.low_freq_factor)
      throw modelError(where, 'high_freq_factor must exceed low_freq_factor.');
    return {
      kind: 'llama3',
      factor: c.factor,
      lowFreqFactor: c.low_freq_factor,
      highFreqFactor: c.high_freq_factor,
      originalMaxPositions: c.original_max_position_embeddings,
    };
  }
  throw modelError(where, `rope type "${type}" is not supported. Supported: default, linear, llama3.`);
}
