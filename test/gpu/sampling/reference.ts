import { MAX_TOP_LOGPROBS, type SamplingParams } from '../../../src/protocol/sampling.ts';

/**
 * What the sampling shaders must compute, in float64 and in the plainest way (sorts, sets), written from vLLM's
 * definitions (vllm/v1/sample/sampler.py, ops/topk_topp_sampler.py) and the Threefry paper, not from the shaders.
 */

const ROTATIONS = [
  [10, 26],
  [11, 21],
  [13, 27],
  [23, 5],
  [6, 20],
  [17, 11],
  [25, 10],
  [18, 20],
] as const;

type Words = readonly [number, number, number, number];

/** Threefry-4x32 with 20 rounds (Salmon et al., SC 2011), after the definition: add, rotate, xor, swap, inject the key. */
export function threefry(counter: Words, key: Words): Words {
  const keys = [...key, 0x1bd11bda ^ key[0] ^ key[1] ^ key[2] ^ key[3]];
  const x = counter.map((c, i) => (c + keys[i]!) | 0);
  const mix = (a: number, b: number, turn: number) => {
    x[a] = (x[a]! + x[b]!) | 0;
    x[b] = ((x[b]! << turn) | (x[b]! >>> (32 - turn))) ^ x[a]!;
  };
  for (let round = 0; round < 20; round++) {
    const [first, second] = ROTATIONS[round % 8]!;
    mix(0, round % 2 === 0 ? 1 : 3, first);
    mix(2, round % 2 === 0 ? 3 : 1, second);
    if (round % 4 !== 3) continue;
    const injection = (round + 1) / 4;
    for (let i = 0; i < 4; i++) x[i] = (x[i]! + keys[(injection + i) % 5]!) | 0;
    x[3] = (x[3]! + injection) | 0;
  }
  return [x[0]! >>> 0, x[1]! >>> 0, x[2]! >>> 0, x[3]! >>> 0];
}

export interface DrawKey {
  readonly seed: readonly [number, number];
  readonly choice: number;
  readonly offset: number;
}

/** Gumbel noise of one id. */
export function gumbel(id: number, { seed, choice, offset }: DrawKey): number {
  const bits = threefry([id >> 2, 0, 0, 0], [seed[0], seed[1], choice, offset])[id % 4]!;
  return -Math.log(-Math.log1p(-(bits + 0.5) / 2 ** 32));
}

/** Tokens of a sequence so far, as penalties see them. */
export interface Tokens {
  readonly prompt: readonly number[];
  readonly generated: readonly number[];
}

/** Scores of one row: -Infinity where min_tokens masks a stop id. */
export function adjust(logits: ArrayLike<number>, s: SamplingParams, tokens: Tokens): number[] {
  const bias = new Map(s.logitBias);
  const stops = new Set(tokens.generated.length < s.minTokens ? s.stopIds : []);
  const seen = new Set([...tokens.prompt, ...tokens.generated]);
  return Array.from(logits, (logit, id) => {
    if (stops.has(id)) return Number.NEGATIVE_INFINITY;
    let x = logit + (bias.get(id) ?? 0);
    if (seen.has(id)) x = x > 0 ? x / s.repetitionPenalty : x * s.repetitionPenalty;
    const times = tokens.generated.filter((t) => t === id).length;
    return x - s.frequencyPenalty * times - (times > 0 ? s.presencePenalty : 0);
  });
}

export interface Kept {
  /** Ids that may be drawn, best first, ties lower id first. */
  readonly ids: number[];
  /** How far the decision about the id next to a threshold was from turning, in z: float32 can't be held to less. */
  readonly margin: number;
}

/** Ids that temperature, min-p, top-k and top-p leave. */
export function keep(scores: readonly number[], s: SamplingParams): Kept {
  const order = scores.map((_, id) => id).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const z = order.map((id) => (scores[id]! - scores[order[0]!]!) / s.temperature);
  let margin = Number.POSITIVE_INFINITY;
  const decide = (value: number, limit: number): boolean => {
    margin = Math.min(margin, Math.abs(value - limit));
    return value >= limit;
  };
  let n = order.length;
  // The best is always kept.
  if (s.minP > 0) n = z.findIndex((v, i) => i > 0 && !decide(v, Math.log(s.minP)));
  if (n < 0) n = order.length;
  if (s.topK > 0 && s.topK < n) {
    const kth = z[s.topK - 1]!;
    n = z.slice(0, n).filter((v) => v >= kth).length;
  }
  if (s.topP < 1) {
    const mass = z.slice(0, n).map(Math.exp);
    const total = mass.reduce((a, b) => a + b, 0);
    let above = 0;
    let i = 0;
    for (; i < n; ) {
      if (i > 0 && decide(above / total, s.topP)) break;
      const value = z[i]!;
      for (; i < n && z[i] === value; i++) above += mass[i]!;
    }
    n = i;
  }
  return { ids: order.slice(0, n), margin };
}

export interface Draw {
  readonly id: number;
  /** By how much the winner won, in z. */
  readonly margin: number;
}

/** The id with the largest z + noise among `ids`. */
export function draw(scores: readonly number[], temperature: number, ids: readonly number[], key: DrawKey): Draw {
  const ranked = ids
    .map((id) => ({ id, value: scores[id]! / temperature + gumbel(id, key) }))
    .sort((a, b) => b.value - a.value);
  return {
    id: ranked[0]!.id,
    margin: ranked.length > 1 ? ranked[0]!.value - ranked[1]!.value : Number.POSITIVE_INFINITY,
  };
}

/** The largest score's id, the lowest of equal ones. */
export function argmax(scores: ArrayLike<number>): number {
  let best = 0;
  for (let id = 1; id < scores.length; id++) if (scores[id]! > scores[best]!) best = id;
  return best;
}

/** Logprob and rank of `target`, and the `top` best, over raw logits. */
export function logprob(logits: ArrayLike<number>, target: number, top: number) {
  const values = Array.from(logits);
  const max = values.reduce((a, b) => Math.max(a, b));
  const log = max + Math.log(values.reduce((sum, x) => sum + Math.exp(x - max), 0));
  const order = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b);
  return {
    logprob: values[target]! - log,
    rank: 1 + values.filter((x) => x > values[target]!).length,
    top: order.slice(0, Math.min(top, MAX_TOP_LOGPROBS)).map((id) => [id, values[id]! - log] as [number, number]),
  };
}

/** Standard normal numbers times `sigma`, the same for the same seed, rounded to float32. */
export function normals(count: number, sigma: number, seed: number): number[] {
  const uniform = (i: number, word: number) => (threefry([i, word, 0, 0], [seed, 0, 0, 1])[0] + 0.5) / 2 ** 32;
  return Array.from({ length: count }, (_, i) =>
    Math.fround(sigma * Math.sqrt(-2 * Math.log(uniform(i, 0))) * Math.cos(2 * Math.PI * uniform(i, 1))),
  );
}
