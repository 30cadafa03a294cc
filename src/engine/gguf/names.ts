import type { WeightSource, WeightSpec } from '../model/spec.ts';

/** HF transformers' names of tensors outside of layers, and llama.cpp's (its `gguf-py/gguf/tensor_mapping.py`). */
const TOP: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

/** The same of a layer, without `model.layers.N.` and `blk.N.`. */
const LAYER: Readonly<Record<string, string>> = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_norm.weight': 'attn_q_norm.weight',
  'self_attn.k_norm.weight': 'attn_k_norm.weight',
  'self_attn.qkv_proj.weight': 'attn_qkv.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  // Phi-3: gate and up are one tensor under the name of up.
  'mlp.gate_up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
  'mlp.gate.weight': 'ffn_gate_inp.weight',
};
/** Gemma 3 has norms on both sides of attention and MLP, and calls the one after attention what others call the one before the MLP. */
const GEMMA: Readonly<Record<string, string>> = {
  'post_attention_layernorm.weight': 'post_attention_norm.weight',
  'pre_feedforward_layernorm.weight': 'ffn_norm.weight',
  'post_feedforward_layernorm.weight': 'post_ffw_norm.weight',
};
const PROJECTIONS: Readonly<Record<string, string>> = { q: 'attn_q', k: 'attn_k', v: 'attn_v', o: 'attn_output' };

/** How the tensors of an architecture's files lie. */
export interface GgufNaming {
  readonly architecture: string;
  readonly headDim: number;
}

/** The weight with the tensors that a GGUF file has for it. */
export function ggufWeight(weight: WeightSpec, naming: GgufNaming): WeightSpec {
  const layer = `blk.${weight.layer}`;
  const count = weight.sources.length;
  // One tensor for all experts: runs of rows that the weight keeps expert by expert.
  if (weight.role === 'expertGateUp') {
    const rows = weight.sources[0]!.rows;
    const stacked = (name: string, first: number): WeightSource => ({
      name: `${layer}.${name}.weight`,
      rows: (rows * count) / 2,
      runs: { first, rows, every: 2 * rows },
    });
    return { ...weight, sources: [stacked('ffn_gate_exps', 0), stacked('ffn_up_exps', rows)] };
  }
  if (weight.role === 'expertDown') {
    const rows = weight.sources[0]!.rows;
    const runs = { first: 0, rows, every: rows };
    return { ...weight, sources: [{ name: `${layer}.ffn_down_exps.weight`, rows: rows * count, runs }] };
  }
  return { ...weight, sources: weight.sources.map((source) => renamed(source, naming)) };
}

function renamed({ name, rows }: WeightSource, { architecture, headDim }: GgufNaming): WeightSource {
  const top = TOP[name];
  if (top !== undefined) return { name: top, rows };
  const [, layer, rest] = /^model\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  if (layer === undefined || rest === undefined) throw new Error(`no GGUF name for ${name}`);
  const [, projection, kind] = /^self_attn\.([qkvo])_proj\.(weight|bias)$/.exec(rest) ?? [];
  if (projection !== undefined) {
    const own = `blk.${layer}.${PROJECTIONS[projection]}.${kind}`;
    // llama.cpp turns neighbouring dimensions of this architecture, so its converter has reordered the rows of q and k.
    const interleaved = architecture === 'llama' && (projection === 'q' || projection === 'k');
    return interleaved ? { name: own, rows, interleaved: headDim } : { name: own, rows };
  }
  const found = (architecture === 'gemma3' ? GEMMA[rest] : undefined) ?? LAYER[rest];
  if (found === undefined) throw new Error(`no GGUF name for ${name}`);
  return { name: `blk.${layer}.${found}`, rows };
}
