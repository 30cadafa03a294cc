import { describe, expect, test } from 'vitest';
import { modelSpec } from '../../../src/engine/model/config.ts';
import { llama, refusal, SIZES } from './configs.ts';

describe('rope, in both spellings', () => {
  const scaling = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };
  const rope = (more: object) => modelSpec(llama(more)).layers[0]!.rope;

  test('rope_theta + rope_scaling says the same as rope_parameters', () => {
    const old = rope({ rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...scaling } });
    expect(old.scaling.kind).toBe('llama3');
    expect(rope({ rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...scaling } })).toEqual(old);
    expect(rope({ rope_theta: 5e5, rope_scaling: { type: 'llama3', ...scaling } })).toEqual(old);
    expect(rope({ rope_theta: 7, rope_parameters: { rope_type: 'default', rope_theta: 5e5 } }).theta).toBe(5e5);
    expect(rope({ rope_theta: 7, rope_parameters: { rope_type: 'default' } }).theta).toBe(7);
  });

  test('no scaling, null scaling and no theta', () => {
    expect(rope({ rope_theta: 42, rope_scaling: null })).toEqual({
      theta: 42,
      rotaryDim: 16,
      attentionFactor: 1,
      scaling: { kind: 'default' },
    });
    expect(rope({}).theta).toBe(10_000);
    expect(rope({ rope_scaling: { type: 'linear', factor: 2 } }).scaling).toEqual({ kind: 'linear', factor: 2 });
  });

  test.each(['su', 'mrope', 'ntk', '__proto__'])('type %s is refused by name', (type) => {
    expect(refusal(llama({ rope_scaling: { type, factor: 2 } }))).toContain(`rope type "${type}" is not supported`);
    expect(refusal(llama({ rope_parameters: { rope_type: type } }))).toContain('Supported: default, linear, dynamic');
  });

  test('dynamic: as if it were not there, since it begins beyond max_position_embeddings', () => {
    expect(rope({ rope_theta: 42, rope_scaling: { type: 'dynamic', factor: 2 } })).toEqual(rope({ rope_theta: 42 }));
  });

  test('yarn: what the config leaves out is derived', () => {
    const yarn = (more: object) => rope({ rope_parameters: { rope_type: 'yarn', ...more } });
    expect(yarn({ factor: 4 })).toMatchObject({
      attentionFactor: 0.1 * Math.log(4) + 1,
      scaling: { kind: 'yarn', factor: 4, betaFast: 32, betaSlow: 1, originalMaxPositions: 512, truncate: true },
    });
    expect(yarn({ original_max_position_embeddings: 64 }).scaling).toMatchObject({ factor: 8 });
    expect(yarn({ factor: 4, attention_factor: 1.5 }).attentionFactor).toBe(1.5);
    const scales = { mscale: 0.7, mscale_all_dim: 1.4 };
    const root = Math.log(4) / 10;
    expect(yarn({ factor: 4, ...scales }).attentionFactor).toBeCloseTo((0.7 * root + 1) / (1.4 * root + 1), 12);
  });

  test('longrope: the long factors where the context is longer than the original one', () => {
    const [short, long] = [Array(8).fill(1), Array(8).fill(3)];
    const phi3 = (more: object) =>
      modelSpec({
        model_type: 'phi3',
        ...SIZES,
        rope_scaling: { type: 'longrope', short_factor: short, long_factor: long },
        ...more,
      }).layers[0]!.rope;
    expect(phi3({ original_max_position_embeddings: 64 })).toMatchObject({
      scaling: { kind: 'longrope', factors: long },
      attentionFactor: Math.sqrt(1 + Math.log(8) / Math.log(64)),
    });
    expect(phi3({ original_max_position_embeddings: 512 })).toMatchObject({
      scaling: { kind: 'longrope', factors: short },
      attentionFactor: 1,
    });
    const wrong = { type: 'su', short_factor: short, long_factor: long.slice(1) };
    expect(
      refusal({ model_type: 'phi3', ...SIZES, rope_scaling: wrong, original_max_position_embeddings: 64 }),
    ).toContain('names 7 factors for 8 pairs');
  });

  test('wrong, missing or contradicting fields are refused', () => {
    expect(refusal(llama({ rope_scaling: { rope_type: 'llama3', ...scaling, factor: 0 } }))).toContain('factor');
    expect(refusal(llama({ rope_scaling: { rope_type: 'linear' } }))).toContain('factor');
    expect(refusal(llama({ rope_scaling: { rope_type: 'llama3', ...scaling, high_freq_factor: 1 } }))).toContain(
      'must exceed',
    );
    expect(refusal(llama({ rope_parameters: { full_attention: { rope_theta: 1 } } }))).toContain('full_attention');
    expect(refusal(llama({ partial_rotary_factor: 0.5 }))).toContain('partial_rotary_factor 0.5');
    expect(refusal(llama({ rope_parameters: { partial_rotary_factor: 0.5 } }))).toContain('partial_rotary_factor 0.5');
    const both = { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: { rope_type: 'default' } };
    expect(refusal(llama(both))).toContain('different things');
  });
});
