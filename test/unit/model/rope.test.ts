import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { inverseFrequencies } from '../../../src/engine/model/rope.ts';
import type { RopeSpec } from '../../../src/engine/model/spec.ts';

const plain = (theta: number, rotaryDim: number): RopeSpec => ({
  theta,
  rotaryDim,
  attentionFactor: 1,
  scaling: { kind: 'default' },
});
const llama3 = (theta: number, rotaryDim: number, low: number, high: number, original: number): RopeSpec => ({
  theta,
  rotaryDim,
  attentionFactor: 1,
  scaling: { kind: 'llama3', factor: 8, lowFreqFactor: low, highFreqFactor: high, originalMaxPositions: original },
});

test('default: powers of theta', () => {
  // theta 10000 over 8 dimensions: 10^0, 10^-1, 10^-2, 10^-3.
  expect([...inverseFrequencies(plain(10_000, 8))]).toEqual([1, 0.1, 0.01, 0.001].map(Math.fround));
  // theta 16 over 4 dimensions: 1 and 1/4, exact in binary.
  expect([...inverseFrequencies(plain(16, 4))]).toEqual([1, 0.25]);
});

test('linear: every frequency divided by the factor', () => {
  const spec: RopeSpec = { theta: 16, rotaryDim: 4, attentionFactor: 1, scaling: { kind: 'linear', factor: 4 } };
  expect([...inverseFrequencies(spec)]).toEqual([0.25, 0.0625]);
});

describe('llama3', () => {
  test('Llama 3.1 8B: values of the published formula, worked by hand', () => {
    // head_dim 128, theta 500000, factor 8, low 1, high 4, original 8192. Wavelengths below 2048 stay, above 8192 are divided.
    const found = inverseFrequencies(llama3(500_000, 128, 1, 4, 8192));
    const base = (i: number) => Math.exp((-2 * i * Math.log(500_000)) / 128);
    // i = 28: wavelength 1954 (kept); i = 29: 2399 (smoothed); i = 35: 8217 (divided by 8).
    expect(found[28]).toBeCloseTo(base(28), 9);
    const share = (8192 / ((2 * Math.PI) / base(29)) - 1) / 3;
    expect(found[29]).toBeCloseTo(base(29) * (share + (1 - share) / 8), 9);
    expect(found[35]).toBeCloseTo(base(35) / 8, 10);
    expect(found[0]).toBe(1);
  });

  test('falls between the plain frequency and the divided one, and never rises with i', () => {
    const anySpec = fc.record({
      theta: fc.double({ min: 100, max: 1e7, noNaN: true }),
      half: fc.integer({ min: 2, max: 128 }),
      low: fc.double({ min: 0.5, max: 4, noNaN: true }),
      more: fc.double({ min: 0.1, max: 8, noNaN: true }),
      original: fc.integer({ min: 16, max: 65_536 }),
    });
    fc.assert(
      fc.property(anySpec, ({ theta, half, low, more, original }) => {
        const scaled = inverseFrequencies(llama3(theta, 2 * half, low, low + more, original));
        const unscaled = inverseFrequencies(plain(theta, 2 * half));
        scaled.forEach((f, i) => {
          expect(f).toBeLessThanOrEqual(unscaled[i]! * (1 + 1e-6));
          expect(f).toBeGreaterThanOrEqual((unscaled[i]! / 8) * (1 - 1e-6));
          if (i > 0) expect(f).toBeLessThanOrEqual(scaled[i - 1]!);
        });
      }),
    );
  });
});

test('longrope: each pair has its own divisor', () => {
  const scaling = { kind: 'longrope', factors: [1, 2] } as const;
  expect([...inverseFrequencies({ theta: 16, rotaryDim: 4, attentionFactor: 1.2, scaling })]).toEqual([1, 0.125]);
});

describe('yarn', () => {
  const yarn = (truncate: boolean): RopeSpec => ({
    theta: 10_000,
    rotaryDim: 128,
    attentionFactor: 1,
    scaling: { kind: 'yarn', factor: 4, betaFast: 32, betaSlow: 1, originalMaxPositions: 4096, truncate },
  });

  test('head of 128, theta 10000, 4096 positions: worked by hand from the paper', () => {
    // The pair that turns 32 times over 4096 positions: 128 ln(4096 / 64 pi) / (2 ln 10000) = 20.94, once: 45.03.
    const found = inverseFrequencies(yarn(true));
    const base = (i: number) => 10_000 ** (-i / 64);
    expect(found[20]).toBeCloseTo(base(20), 9);
    expect(found[46]).toBeCloseTo(base(46) / 4, 9);
    expect(found[63]).toBeCloseTo(base(63) / 4, 10);
    // Truncated: the ramp goes from 20 to 46, so half of it is reached at 33.
    expect(found[33]).toBeCloseTo(base(33) * (0.5 + 0.5 / 4), 9);
    const ramp = (33 - 20.944) / (45.026 - 20.944);
    expect(inverseFrequencies(yarn(false))[33]).toBeCloseTo(base(33) * (1 - ramp + ramp / 4), 6);
  });
});
