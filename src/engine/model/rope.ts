import type { RopeScaling, RopeSpec } from './spec.ts';

/**
 * Angle per position of each pair of turned dimensions, in radians: length rotaryDim / 2, computed in float64 and
 * rounded once. Formulas: HF transformers `modeling_rope_utils.py`; the models turn dimension i with i + rotaryDim / 2 ("rotate half").
 */
export function inverseFrequencies({ theta, rotaryDim, scaling }: RopeSpec): Float32Array {
  const scale = scaler(scaling, theta, rotaryDim);
  return Float32Array.from({ length: rotaryDim / 2 }, (_, i) => scale(theta ** (-(2 * i) / rotaryDim), i));
}

/** How a scaling changes the frequency of pair `i`. */
function scaler(scaling: RopeScaling, theta: number, rotaryDim: number): (frequency: number, i: number) => number {
  switch (scaling.kind) {
    case 'default':
      return (frequency) => frequency;
    case 'linear':
      return (frequency) => frequency / scaling.factor;
    case 'stored':
      throw new Error('the divisors of the rope frequencies are not loaded yet');
    case 'longrope':
      return (frequency, i) => frequency / scaling.factors[i]!;
    case 'llama3': {
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
      return (frequency) => {
        const wavelength = (2 * Math.PI) / frequency;
        if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
        if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
        const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
        return (1 - smooth) * (frequency / factor) + smooth * frequency;
      };
    }
    case 'yarn': {
      const { factor, betaFast, betaSlow, originalMaxPositions, truncate } = scaling;
      // The pair that turns `rotations` times over the original context. Peng et al. 2023, https://arxiv.org/abs/2309.00071
      const pairOf = (rotations: number) =>
        (rotaryDim * Math.log(originalMaxPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
      const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
      const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
      const high = Math.min(truncate ? Math.ceil(slow) : slow, rotaryDim - 1);
      const width = high === low ? 0.001 : high - low;
      return (frequency, i) => {
        const ramp = Math.min(1, Math.max(0, (i - low) / width));
        return (frequency / factor) * ramp + frequency * (1 - ramp);
      };
    }
  }
}
