import type { RopeSpec } from './spec.ts';

/**
 * Angle per position of each pair of turned dimensions, in radians: length rotaryDim / 2, computed in float64 and
 * rounded once. Formulas: HF transformers `modeling_rope_utils.py` (`default`, `linear`, `llama3`); the models turn
 * dimension i with i + rotaryDim / 2 ("rotate half").
 */
export function inverseFrequencies(rope: RopeSpec): Float32Array {
  const { theta, rotaryDim, scaling } = rope;
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const frequency = theta ** (-(2 * i) / rotaryDim);
    if (scaling.kind === 'default') return frequency;
    if (scaling.kind === 'linear') return frequency / scaling.factor;
    const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
    if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
    const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return (1 - smooth) * (frequency / factor) + smooth * frequency;
  });
}
