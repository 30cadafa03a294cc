import type { KernelCall } from '../src/engine/gpu/kernel.ts';
import {
  DTYPE_CODE,
  isBlockDtype,
  type WeightDtype,
  type WeightLayout,
  weightLayout,
} from '../src/engine/kernels/dtype.ts';
import { modelSpec } from '../src/engine/model/config.ts';
import type { ModelSpec, WeightSpec } from '../src/engine/model/spec.ts';
import type { LoadedWeight, LoadedWeights } from '../src/engine/weights/loaded.ts';
import { outputsOf, splitWeight } from '../src/engine/weights/parts.ts';
import type { KernelRunner } from '../test/gpu/kernel-runner.ts';

/** Sizes of published models, from their config.json. */
const CONFIGS = {
  pico: qwen3(4096, 256, 768, 6, 4, 2, 64),
  'qwen3-0.6b': qwen3(151_936, 1024, 3072, 28, 16, 8, 128),
  'qwen3-1.7b': qwen3(151_936, 2048, 6144, 28, 16, 8, 128),
  'qwen3-4b': qwen3(151_936, 2560, 9728, 36, 32, 8, 128),
  'llama-3.2-1b': {
    ...qwen3(128_256, 2048, 8192, 16, 32, 8, 64),
    model_type: 'llama',
    rope_theta: 500_000,
  },
} as const;

export type ShapeName = keyof typeof CONFIGS;
export const SHAPES = Object.keys(CONFIGS) as ShapeName[];

export function shapeSpec(name: ShapeName): ModelSpec {
  return modelSpec(CONFIGS[name]);
}

function qwen3(vocab: number, hidden: number, mlp: number, layers: number, heads: number, kv: number, headDim: number) {
  return {
    model_type: 'qwen3',
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: mlp,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kv,
    head_dim: headDim,
    max_position_embeddings: 40_960,
    rope_theta: 1_000_000,
    tie_word_embeddings: true,
  };
}

/** Bytes that the matrices of a model take. */
export function weightBytes(spec: ModelSpec, dtype: WeightDtype): number {
  return spec.weights.reduce((sum, w) => sum + weightLayout(heldAs(w, dtype), w.rows, w.cols).bytes, 0);
}

const heldAs = ({ cols }: WeightSpec, dtype: WeightDtype): WeightDtype => (cols === 1 ? 'f32' : dtype);

/** Largest integer of a dtype, about. */
const INTEGER_RANGE: Partial<Record<WeightDtype, number>> = { int8: 127, int4: 8 };

const WORKGROUP = 64;
const MAX_GRID = 32_768;

/** All weights of a model, drawn on the GPU: small enough that no activation overflows. */
export async function generatedWeights(
  bench: KernelRunner,
  spec: ModelSpec,
  dtype: WeightDtype,
): Promise<LoadedWeights> {
  const made = new Map<string, LoadedWeight[]>();
  const key = ({ role, layer }: Pick<WeightSpec, 'role' | 'layer'>) => `${role} ${layer}`;
  const { maxBufferSize, maxStorageBufferBindingSize } = bench.gpu.device.limits;
  const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  let seed = 1;
  for (const weight of spec.weights) {
    const held = heldAs(weight, dtype);
    const planned = splitWeight(weight, { firstOutput: 0, outputs: outputsOf(weight) }, held, limit);
    if (!planned) throw new Error(`${key(weight)} cannot be split into buffers of ${limit} bytes`);
    const parts: LoadedWeight[] = [];
    for (const { layout, firstOutput, outputs, rows } of planned) {
      const buffer = bench.buffer(layout.bytes);
      await bench.run(fill(buffer, weight, held, layout, seed));
      seed += 7919;
      parts.push({ buffer, dtype: held, scalesAt: layout.scalesAt / 4, firstOutput, outputs, rows, cols: weight.cols });
    }
    made.set(key(weight), parts);
  }
  const parts: LoadedWeights['parts'] = (role, layer) => {
    const wanted = role === 'lmHead' && spec.tiedEmbeddings ? 'embed' : role;
    const found = made.get(key({ role: wanted, layer }));
    if (!found) throw new Error(`no weight ${role} ${layer}`);
    return found;
  };
  return {
    bytes: weightBytes(spec, dtype),
    dtypes: dtype,
    ropeFactors: null,
    get: (role, layer) => parts(role, layer)[0]!,
    parts,
    buffers: [...made.values()].flat().map(({ buffer }) => buffer),
    over() {
      throw new Error('weights of a bench stay where they are');
    },
    destroy() {
      for (const { buffer } of [...made.values()].flat()) buffer.destroy();
    },
  };
}

function fill(
  buffer: GPUBuffer,
  { cols }: WeightSpec,
  held: WeightDtype,
  { bytes, scalesAt }: WeightLayout,
  seed: number,
): KernelCall {
  const words = Math.ceil(bytes / 4);
  const range = INTEGER_RANGE[held] ?? 1;
  const grid = Math.min(MAX_GRID, Math.ceil(words / WORKGROUP));
  return {
    label: 'fill',
    shader: 'bench/fill.wgsl',
    constants: {
      SCALE: cols === 1 ? 1 : 0.5 / Math.sqrt(cols) / range,
      // Integers are no floats to pack: any code of a float will do for them.
      DTYPE: isBlockDtype(held) ? DTYPE_CODE.f16 : DTYPE_CODE[held],
      INTEGERS: Number(isBlockDtype(held)),
      SCALES_AT: scalesAt / 4,
      WORDS: words,
      GRID: grid,
      WORKGROUP,
      SEED: seed,
    },
    bindings: [{ buffer, access: 'read_write' }],
    workgroups: [grid, Math.ceil(words / WORKGROUP / grid), 1],
    bytes: words * 4,
    flops: 0,
  };
}
