import { EngineError } from '../api.ts';
import { modelSpec } from '../model/config.ts';
import type { ModelSpec } from '../model/spec.ts';
import { modelError } from '../model-error.ts';
import { ggufConfig } from './config.ts';
import type { GgufContent } from './header.ts';
import { ggufWeight } from './names.ts';

/** The transformer that a GGUF file holds, or all of a split one's. pools: it shall give embeddings. Throws `EngineError` code `model` for what this engine does not compute, by name. */
export function ggufSpec(header: GgufContent, file: string, pools = false): ModelSpec {
  const { architecture, config, ropeFactors } = ggufConfig(header, file);
  const spec = specOf(config, file, pools);
  const naming = { architecture, headDim: spec.headDim };
  const weights = spec.weights.map((weight) => ggufWeight(weight, naming));
  // llama.cpp's converter adds the 1 of Gemma's norms to their weights.
  const plain = { ...spec, weights, normOffset: 0 };
  if (ropeFactors === null) return plain;
  const { tensor, attentionFactor } = ropeFactors;
  const rows = spec.layers[0]!.rope.rotaryDim / 2;
  return {
    ...plain,
    weights: [
      ...weights,
      { role: 'ropeFactors', layer: null, sources: [{ name: tensor.name, rows }], rows, matrices: 1, cols: 1 },
    ],
    layers: spec.layers.map((layer) => ({
      ...layer,
      rope: { ...layer.rope, scaling: { kind: 'stored' }, attentionFactor },
    })),
  };
}

function specOf(config: unknown, file: string, pools: boolean): ModelSpec {
  try {
    return modelSpec(config, undefined, pools);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    throw modelError(file, `its metadata, read as a config.json, are refused: ${error.message}`, { cause: error });
  }
}

/** The spec with the divisors of its rope frequencies, which were loaded with the weights. */
export function withRopeFactors(spec: ModelSpec, factors: readonly number[] | null): ModelSpec {
  if (factors === null) return spec;
  if (!factors.every((factor) => Number.isFinite(factor) && factor > 0))
    throw modelError('rope factors', `are ${factors.slice(0, 5).join(', ')}, ...; each must be a positive number.`);
  return {
    ...spec,
    layers: spec.layers.map((layer) =>
      layer.rope.scaling.kind === 'stored'
        ? { ...layer, rope: { ...layer.rope, scaling: { kind: 'longrope', factors } } }
        : layer,
    ),
  };
}
