import type { ModelSpec } from './spec.ts';

/** The same model for its embeddings: nothing is sampled, so that no head is loaded. */
export function pooledSpec(spec: ModelSpec): ModelSpec {
  return { ...spec, pools: true, weights: spec.weights.filter(({ role }) => role !== 'lmHead') };
}
