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
      const scores = keys
        .slice(first)
        .map((key) => cap(spec.attentionScale * dot(q, h * headDim, key, at, headDim), spec));
      const largest = Math.max(...scores);
      const shares = scores.map((s) => Math.exp(s - largest));
      const sum = shares.reduce((a, b) => a + b, 0);
      for (const [i, share] of shares.entries()) {
        for (let d = 0; d < headDim; d++) attended[h * headDim + d]! += (share / sum) * values[first + i]![at + d]!;
      }
    }
    const fromAttention = multiply(weights.get('oProj'), attended);
    if (spec.oBias) add(fromAttention, weights.get('oBias').values);
    add(x, spec.outNorms ? norm(fromAttention, weights.get('attentionOutNorm').values, spec) : fromAttention);

    const fromMlp = mlp(spec, weights, norm(x, weights.get('mlpNorm').values, spec));
    add(x, spec.outNorms ? norm(fromMlp, weights.get('mlpOutNorm').values, spec) : fromMlp);
    return x;
  });
}

function mlp(spec: ModelSpec, weights: ReferenceWeights, x: Float64Array): Float64Array {
  const { experts } = spec.layers[0]!;
  if (experts === null) return expert(spec, spec.intermediateSize, weights.get('gateUp'), weights.get('down'), x);
  const { count, perToken, intermediateSize, normalized } = experts;
  const logits = multiply(weights.get('router'), x);
  const largest = Math.max(...logits);
  const shares = logits.map((logit) => Math.exp(logit - largest));
  const sum = shares.reduce((a, b) => a + b, 0);
  const chosen = Array.from({ length: count }, (_, e) => e)
    .sort((a, b) => shares[b]! - shares[a]! || a - b)
    .slice(0, perToken);
  const all = normalized ? chosen.reduce((total, e) => total + shares[e]!, 0) : sum;
  const out = new Float64Array(spec.hiddenSize);
  for (const e of chosen) {
    const gateUp = rowsOf(weights.get('expertGateUp'), e * 2 * intermediateSize, 2 * intermediateSize);
    const down = rowsOf(weights.get('expertDown'), e * spec.hiddenSize, spec.hiddenSize);
    add(
      out,
      expert(spec, intermediateSize, gateUp, down, x).map((v) => (v * shares[e]!) / all),
    );
  }
  return out;
}

function expert(spec: ModelSpec, size: number, gateUp: Matrix, down: Matrix, x: Float64Array): Float64Array {
  const both = multiply(gateUp, x);
  return multiply(
    down,
    both.subarray(0, size).map((gate, i) => activate(gate, spec) * both[size + i]!),
  );
}

function rowsOf({ cols, values }: Matrix, first: number, rows: number): Matrix {
  return { rows, cols, values: Array.prototype.slice.call(values, first * cols, (first + rows) * cols) };
}

function cap(score: number, { attentionSoftcap }: ModelSpec): number {
  return attentionSoftcap === 0 ? score : attentionSoftcap * Math.tanh(score / attentionSoftcap);
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
  const factor = spec.layers[0]!.rope.attentionFactor;
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
      head[i] = factor * (a * Math.cos(angle) - b * Math.sin(angle));
      head[i + half] = factor * (b * Math.cos(angle) + a * Math.sin(angle));
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
