/** A model folder in the Hugging Face layout as the parts of a GGUF file, as llama.cpp's convert_hf_to_gguf.py writes it. */
import { readFileSync } from 'node:fs';
import { fromBf16, fromF16 } from '../gpu/kernels/reference.ts';
import { encode, type StoredType } from './ggml-types.ts';
import { GGML_TYPE, type GgufParts, type GgufTensor, type Metadata } from './gguf-file.ts';

interface Tensor {
  readonly shape: number[];
  readonly values: Float32Array;
}

const read = new Map<string, Map<string, Tensor>>();

/** Tensors of a safetensors file by name, as f32; read once. */
export function readTensors(path: string): ReadonlyMap<string, Tensor> {
  const tensors = read.get(path) ?? widened(path);
  read.set(path, tensors);
  return tensors;
}

function widened(path: string): Map<string, Tensor> {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return new Map(
    entries.map(([name, { dtype, shape, data_offsets }]) => {
      const bytes = Uint8Array.from(file.subarray(8 + length + data_offsets[0], 8 + length + data_offsets[1]));
      const halves = () => new Uint16Array(bytes.buffer);
      const values =
        dtype === 'F32'
          ? new Float32Array(bytes.buffer)
          : Float32Array.from(halves(), dtype === 'BF16' ? fromBf16 : fromF16);
      return [name, { shape, values }];
    }),
  );
}

const ARCHITECTURES: Record<string, string> = {
  llama: 'llama',
  mistral: 'llama',
  qwen2: 'qwen2',
  qwen3: 'qwen3',
  qwen3_moe: 'qwen3moe',
  gemma3_text: 'gemma3',
  phi3: 'phi3',
};

const NAMES: [RegExp, string][] = [
  [/^model\.embed_tokens\.weight$/, 'token_embd.weight'],
  [/^model\.norm\.weight$/, 'output_norm.weight'],
  [/^lm_head\.weight$/, 'output.weight'],
  [/^model\.layers\.(\d+)\.input_layernorm\.weight$/, 'blk.$1.attn_norm.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$/, 'blk.$1.attn_$2.$3'],
  [/^model\.layers\.(\d+)\.self_attn\.qkv_proj\.weight$/, 'blk.$1.attn_qkv.weight'],
  [/^model\.layers\.(\d+)\.self_attn\.o_proj\.(weight|bias)$/, 'blk.$1.attn_output.$2'],
  [/^model\.layers\.(\d+)\.self_attn\.([qk])_norm\.weight$/, 'blk.$1.attn_$2_norm.weight'],
  [/^model\.layers\.(\d+)\.pre_feedforward_layernorm\.weight$/, 'blk.$1.ffn_norm.weight'],
  [/^model\.layers\.(\d+)\.post_feedforward_layernorm\.weight$/, 'blk.$1.post_ffw_norm.weight'],
  [/^model\.layers\.(\d+)\.mlp\.gate_up_proj\.weight$/, 'blk.$1.ffn_up.weight'],
  [/^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj\.weight$/, 'blk.$1.ffn_$2.weight'],
  [/^model\.layers\.(\d+)\.mlp\.gate\.weight$/, 'blk.$1.ffn_gate_inp.weight'],
];

function nameOf(name: string, gemma: boolean): string {
  const post = /^model\.layers\.(\d+)\.post_attention_layernorm\.weight$/.exec(name);
  if (post) return `blk.${post[1]}.${gemma ? 'post_attention_norm' : 'ffn_norm'}.weight`;
  const found = NAMES.find(([pattern]) => pattern.test(name));
  if (!found) throw new Error(`no GGUF name for ${name}`);
  return name.replace(found[0], found[1]);
}

/** numpy's reshape(heads, 2, d / 2, ...).swapaxes(1, 2): row i + j * d / 2 of a head becomes its row 2 i + j. */
function permuted({ shape, values }: Tensor, heads: number): Tensor {
  const cols = shape[1] ?? 1;
  const d = shape[0]! / heads;
  const out = new Float32Array(values.length);
  for (let h = 0; h < heads; h++)
    for (let j = 0; j < 2; j++)
      for (let i = 0; i < d / 2; i++) {
        const from = (h * d + j * (d / 2) + i) * cols;
        out.set(values.subarray(from, from + cols), (h * d + 2 * i + j) * cols);
      }
  return { shape, values: out };
}

/** The folder's GGUF. `typeOf` chooses a matrix's type by its GGUF name; vectors are F32. */
export function convertFolder(folder: string, typeOf: (name: string, cols: number) => StoredType): GgufParts {
  // biome-ignore lint/suspicious/noExplicitAny: fixture JSON, read field by field
  const c = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8')) as Record<string, any>;
  const architecture = ARCHITECTURES[c.model_type as string]!;
  const gemma = architecture === 'gemma3';
  const heads = c.num_attention_heads as number;
  const headDim = (c.head_dim ?? c.hidden_size / heads) as number;
  const rope = c.rope_parameters?.full_attention ?? c.rope_parameters ?? { rope_theta: c.rope_theta };
  const own: Metadata = {
    context_length: c.max_position_embeddings,
    embedding_length: c.hidden_size,
    block_count: c.num_hidden_layers,
    feed_forward_length: c.intermediate_size,
    'attention.head_count': heads,
    'attention.head_count_kv': c.num_key_value_heads,
    'attention.key_length': headDim,
    'attention.value_length': headDim,
    'attention.layer_norm_rms_epsilon': c.rms_norm_eps,
    'rope.freq_base': rope.rope_theta,
    ...(c.sliding_window && { 'attention.sliding_window': c.sliding_window }),
    ...(c.layer_types?.includes('sliding_attention') && {
      'attention.sliding_window_pattern': (c.layer_types as string[]).map((type) => type === 'sliding_attention'),
    }),
    ...(c.num_local_experts && {
      expert_count: c.num_local_experts,
      expert_used_count: c.num_experts_per_tok,
      expert_feed_forward_length: c.moe_intermediate_size,
    }),
  };
  const metadata: Metadata = {
    'general.architecture': architecture,
    ...Object.fromEntries(Object.entries(own).map(([key, v]) => [`${architecture}.${key}`, v])),
    'tokenizer.ggml.eos_token_id': Array.isArray(c.eos_token_id) ? c.eos_token_id[0] : c.eos_token_id,
  };
  const tensors: Record<string, GgufTensor> = {};
  const add = (name: string, { shape, values }: Tensor) => {
    const type = shape.length === 1 ? 'F32' : typeOf(name, shape.at(-1)!);
    tensors[name] = { type: GGML_TYPE[type], shape, bytes: encode(type, values) };
  };
  if (rope.rope_type === 'llama3') add('rope_freqs.weight', llama3Factors(rope, headDim));
  const source = readTensors(`${folder}/model.safetensors`);
  for (const [name, tensor] of source) {
    if (/\.mlp\.experts\.\d+\./.test(name) || (c.tie_word_embeddings && name === 'lm_head.weight')) continue;
    const own = nameOf(name, gemma);
    const turned = architecture === 'llama' && /attn_(q|k)\./.test(own);
    const raised = gemma && own.endsWith('norm.weight');
    if (turned) add(own, permuted(tensor, own.includes('attn_q') ? heads : c.num_key_value_heads));
    else add(own, raised ? { ...tensor, values: tensor.values.map((x) => x + 1) } : tensor);
  }
  for (let layer = 0; layer < c.num_hidden_layers && c.num_local_experts; layer++) {
    for (const kind of ['gate', 'up', 'down']) {
      const each = Array.from(
        { length: c.num_local_experts as number },
        (_, e) => source.get(`model.layers.${layer}.mlp.experts.${e}.${kind}_proj.weight`)!,
      );
      const values = Float32Array.from(each.flatMap((tensor) => [...tensor.values]));
      add(`blk.${layer}.ffn_${kind}_exps.weight`, { shape: [each.length, ...each[0]!.shape], values });
    }
  }
  return { metadata, tensors };
}

/** As convert_hf_to_gguf.py's `generate_extra_tensors` of llama: what each frequency is divided by. */
// biome-ignore lint/suspicious/noExplicitAny: fixture JSON, read field by field
function llama3Factors(rope: Record<string, any>, headDim: number): Tensor {
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: old } = rope;
  const values = Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * rope.rope_theta ** ((2 * i) / headDim);
    if (wavelength < old / high) return 1;
    if (wavelength > old / low) return factor;
    const smooth = (old / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
  return { shape: [headDim / 2], values };
}
