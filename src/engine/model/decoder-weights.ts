import type { LayerSpec, TensorRole, WeightSpec } from './spec.ts';

/** What the names and shapes of a decoder's tensors depend on. */
export interface DecoderShape {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: readonly Pick<LayerSpec, 'experts'>[];
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  readonly qkNorm: boolean;
  readonly qkvBias: boolean;
  readonly oBias: boolean;
  readonly outNorms: boolean;
  readonly tiedEmbeddings: boolean;
  /** q, k and v are one tensor of the checkpoint, and so are gate and up. */
  readonly fused: boolean;
}

/**
 * Weights of a Llama-like decoder with the tensor names of HF transformers, in the order in which a step uses them. Matrices are
 * [rows = outputs, cols = inputs], row-major, as `nn.Linear` keeps them.
 */
export function decoderWeights(s: DecoderShape): WeightSpec[] {
  const q = s.numHeads * s.headDim;
  const kv = s.numKvHeads * s.headDim;
  const weights = [weight('embed', null, s.hiddenSize, [['model.embed_tokens.weight', s.vocabSize]])];
  for (const [layer, { experts }] of s.layers.entries()) {
    const stack = (role: TensorRole, matrices: number, cols: number, sources: readonly [string, number][]): void => {
      const named = sources.map(([name, rows]): [string, number] => [`model.layers.${layer}.${name}`, rows]);
      weights.push(weight(role, layer, cols, named, matrices));
    };
    const add = (role: TensorRole, cols: number, ...sources: [name: string, rows: number][]) =>
      stack(role, 1, cols, sources);
    const project = (name: string, kind: 'weight' | 'bias') => `self_attn.${name}_proj.${kind}`;
    add('inputNorm', 1, ['input_layernorm.weight', s.hiddenSize]);
    if (s.fused) add('qkv', s.hiddenSize, [project('qkv', 'weight'), q + 2 * kv]);
    else
      add('qkv', s.hiddenSize, [project('q', 'weight'), q], [project('k', 'weight'), kv], [project('v', 'weight'), kv]);
    if (s.qkvBias) add('qkvBias', 1, [project('q', 'bias'), q], [project('k', 'bias'), kv], [project('v', 'bias'), kv]);
    if (s.qkNorm) add('qkNorm', 1, ['self_attn.q_norm.weight', s.headDim], ['self_attn.k_norm.weight', s.headDim]);
    add('oProj', q, [project('o', 'weight'), s.hiddenSize]);
    if (s.oBias) add('oBias', 1, [project('o', 'bias'), s.hiddenSize]);
    if (s.outNorms) add('attentionOutNorm', 1, ['post_attention_layernorm.weight', s.hiddenSize]);
    add('mlpNorm', 1, [`${s.outNorms ? 'pre_feedforward' : 'post_attention'}_layernorm.weight`, s.hiddenSize]);
    if (experts === null) {
      const half = s.intermediateSize;
      const apart: [string, number][] = [
        ['mlp.gate_proj.weight', half],
        ['mlp.up_proj.weight', half],
      ];
      stack('gateUp', 2, s.hiddenSize, s.fused ? [['mlp.gate_up_proj.weight', 2 * half]] : apart);
      add('down', half, ['mlp.down_proj.weight', s.hiddenSize]);
    } else {
      const each = Array.from({ length: experts.count }, (_, e) => `mlp.experts.${e}`);
      const half = experts.intermediateSize;
      add('router', s.hiddenSize, ['mlp.gate.weight', experts.count]);
      const gateUp = (e: string): [string, number][] => [
        [`${e}.gate_proj.weight`, half],
        [`${e}.up_proj.weight`, half],
      ];
      const down = each.map((e): [string, number] => [`${e}.down_proj.weight`, s.hiddenSize]);
      stack('expertGateUp', 2 * experts.count, s.hiddenSize, each.flatMap(gateUp));
      stack('expertDown', experts.count, half, down);
    }
    if (s.outNorms) add('mlpOutNorm', 1, ['post_feedforward_layernorm.weight', s.hiddenSize]);
  }
  weights.push(weight('finalNorm', null, 1, [['model.norm.weight', s.hiddenSize]]));
  if (!s.tiedEmbeddings) weights.push(weight('lmHead', null, s.hiddenSize, [['lm_head.weight', s.vocabSize]]));
  return weights;
}

function weight(
  role: TensorRole,
  layer: number | null,
  cols: number,
  named: readonly [string, number][],
  matrices = 1,
): WeightSpec {
  const sources = named.map(([name, rows]) => ({ name, rows }));
  return { role, layer, sources, rows: sources.reduce((sum, source) => sum + source.rows, 0), matrices, cols };
}
