import { inverseFrequencies } from './rope.ts';
import type { ModelSpec, TensorRole } from './spec.ts';

type Matrix = { readonly rows: number; readonly cols: number; readonly values: ArrayLike<number> };

/** Weights of layer 0 and rows of the embedding, widened to plain numbers. */
export interface ReferenceWeights {
  get(role: TensorRole): Matrix;
  /** Row of the embedding for a token id. */
  embedding(token: number): ArrayLike<number>;
}

/**
 * The residual stream after layer 0 for each of `tokens` (positions 0, 1, ...), computed on the CPU in float64:
 * [token][hidden]. Independent of every shader; the self-test of models without known outputs compares against it.
 */
export function referenceLayer(spec: ModelSpec, weights: ReferenceWeights, tokens: readonly number[]): Float64Array[] {
  const { numHeads, numKvHeads, headDim } = spec;
  const group = numHeads / numKvHeads;
  const layer = spec.layers[0]!;
  const frequencies = inverseFrequencies(layer.rope);
  const keys: Float64Array[] = [];
  const values: Float64Array[] = [];
  return tokens.map((token, position) => {
    const x = Float64Array.from(weights.embedding(token), (v) => v * spec.embedScale);
    const qkv = multiply(weights.get('qkv'), norm(x, weights.get('inputNorm').values, spec));
    if (spec.qkvBias) add(qkv, weights.get('qkvBias').values);
    const q = qkv.subarray(0, numHeads * headDim);
    const k = qkv.subarray(numHeads * headDim, (numHeads + numKvHeads) * headDim);
    const headNorms = spec.qkNorm ? weights.get('qkNorm').values : null;
    rotateHeads(q, 0, headNorms, frequencies, position, spec);
    rotateHeads(k, headDim, headNorms, frequencies, position, spec);
    keys.push(k);
    values.push(qkv.subarray((numHeads + numKvHeads) * headDim));

    const attended = new Float64Array(numHeads * headDim);
    const first = layer.slidingWindow === null ? 0 : Math.max(0, position + 1 - layer.slidingWindow);
    for (let h = 0; h < numHeads; h++) {
      const at = Math.floor(h / group) * headDim;
      const scores = keys.slice(first).map((key) => spec.attentionScale * dot(q, h * headDim, key, at, headDim));
      const largest = Math.max(...scores);
      const shares = scores.map((s) => Math.exp(s - largest));
      const sum = shares.reduce((a, b) => a + b, 0);
      for (const [i, share] of shares.entries()) {
        for (let d = 0; d < headDim; d++) attended[h * headDim + d]! += (share / sum) * values[first + i]![at + d]!;
      }
    }
    add(x, multiply(weights.get('oProj'), attended));
    if (spec.oBias) add(x, weights.get('oBias').values);

    const gateUp = multiply(weights.get('gateUp'), norm(x, weights.get('postAttentionNorm').values, spec));
    const gated = gateUp
      .subarray(0, spec.intermediateSize)
      .map((g, i) => activate(g, spec) * gateUp[spec.intermediateSize + i]!);
    add(x, multiply(weights.get('down'), gated));
    return x;
  });
}

function rotateHeads(
  heads: Float64Array,
  normAt: number,
  norms: ArrayLike<number> | null,
  frequencies: Float32Array,
  position: number,
  spec: ModelSpec,
): void {
  const half = frequencies.length;
  for (let at = 0; at < heads.length; at += spec.headDim) {
    const head = heads.subarray(at, at + spec.headDim);
    if (norms)
      head.set(
        norm(
          head,
          Array.from({ length: spec.headDim }, (_, i) => norms[normAt + i]!),
          spec,
        ),
      );
    for (let i = 0; i < half; i++) {
      const angle = position * frequencies[i]!;
      const [a, b] = [head[i]!, head[i + half]!];
      head[i] = a * Math.cos(angle) - b * Math.sin(angle);
      head[i + half] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
}

function norm(x: Float64Array, weight: ArrayLike<number>, spec: ModelSpec): Float64Array {
  const scale = 1 / Math.sqrt(dot(x, 0, x, 0, x.length) / x.length + spec.normEps);
  return x.map((v, i) => v * scale * (weight[i]! + spec.normOffset));
}

function activate(x: number, spec: ModelSpec): number {
  if (spec.activation === 'silu') return x / (1 + Math.exp(-x));
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function multiply(w: Matrix, x: Float64Array): Float64Array {
  return Float64Array.from({ length: w.rows }, (_, r) => dot(w.values, r * w.cols, x, 0, w.cols));
}

function dot(a: ArrayLike<number>, aAt: number, b: ArrayLike<number>, bAt: number, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += a[aAt + i]! * b[bAt + i]!;
  return sum;
}

function add(x: Float64Array, y: ArrayLike<number>): void {
  for (let i = 0; i < x.length; i++) x[i]! += y[i]!;
}
