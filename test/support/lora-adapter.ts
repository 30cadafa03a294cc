import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OfferedFiles } from '../../src/engine/files/source.ts';
import { type LoraProduct, loraProducts } from '../../src/engine/lora/sites.ts';
import type { ModelSpec } from '../../src/engine/model/spec.ts';
import { toF16, widen } from '../../src/engine/weights/float16.ts';
import { headerLength, PREFIX_BYTES, parseHeader } from '../../src/engine/weights/safetensors.ts';
import { isFloatType } from '../../src/engine/weights/tensor-types.ts';
import { memoryFiles } from './folder-files.ts';
import { safetensorsFile, type TestTensor, type TestTensors } from './safetensors-file.ts';

/** Both matrices of one linear layer: A [rank][inputs], B [outputs][rank]. */
export interface LoraPair {
  readonly rank: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** An adapter: its pairs by the full name of the linear layer (`model.layers.0.self_attn.q_proj`), and what its config says. */
export interface TestAdapter {
  readonly pairs: ReadonlyMap<string, LoraPair>;
  readonly config: Readonly<Record<string, unknown>>;
  /** What B A is multiplied by. */
  readonly scale: number;
  readonly dtype: TestTensor['dtype'];
}

export interface AdapterWish {
  readonly seed: number;
  readonly rank?: number;
  readonly alpha?: number;
  /** Last names of the linear layers; default: all. */
  readonly targets?: readonly string[];
  /** Size of the numbers of A and B. */
  readonly size?: number;
  readonly dtype?: TestTensor['dtype'];
  readonly config?: Readonly<Record<string, unknown>>;
}

/** Numbers from -1 to 1, the same for the same seed. */
function numbers(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * 0.999;
  };
}

/** An adapter of random numbers for a model; they are those that its dtype can hold. */
export function randomAdapter(spec: ModelSpec, wish: AdapterWish): TestAdapter {
  const { seed, rank = 4, alpha = 8, targets, size = 0.2, dtype = 'F32', config = {} } = wish;
  const next = numbers(seed);
  const held = (x: number) => widen(stored([x], dtype), dtype)[0]!;
  const matrix = (n: number) => Float32Array.from({ length: n }, () => held(next() * size));
  const pairs = new Map<string, LoraPair>();
  const names = new Set<string>();
  for (const product of loraProducts(spec)) {
    for (const [name, columns] of layersOf(product)) {
      const last = name.slice(name.lastIndexOf('.') + 1);
      if (targets && !targets.includes(last)) continue;
      names.add(last);
      pairs.set(name, { rank, a: matrix(rank * product.inputs), b: matrix(columns * rank) });
    }
  }
  return {
    pairs,
    config: { peft_type: 'LORA', r: rank, lora_alpha: alpha, target_modules: [...names], bias: 'none', ...config },
    scale: alpha / rank,
    dtype,
  };
}

function layersOf({ layer, targets }: LoraProduct): [name: string, columns: number][] {
  return targets.map(({ module, columns }) => [`model.layers.${layer}.${module}`, columns]);
}

function stored(values: ArrayLike<number>, dtype: TestTensor['dtype']): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(Float32Array.from(values).buffer);
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  const half = (x: number) => {
    if (dtype === 'F16') return toF16(x);
    float[0] = x;
    return bits[0]! >>> 16;
  };
  return new Uint8Array(Uint16Array.from(values, half).buffer);
}

/** The tensors of an adapter, by PEFT's names. */
export function adapterTensors({ pairs, dtype }: TestAdapter): TestTensors {
  const tensors: TestTensors = {};
  for (const [name, { rank, a, b }] of pairs) {
    const full = `base_model.model.${name}`;
    tensors[`${full}.lora_A.weight`] = { dtype, shape: [rank, a.length / rank], bytes: stored(a, dtype) };
    tensors[`${full}.lora_B.weight`] = { dtype, shape: [b.length / rank, rank], bytes: stored(b, dtype) };
  }
  return tensors;
}

/** The two files of PEFT's layout. */
export function adapterContents(adapter: TestAdapter): Record<string, Uint8Array> {
  return {
    'adapter_config.json': Buffer.from(JSON.stringify(adapter.config)),
    'adapter_model.safetensors': safetensorsFile(adapterTensors(adapter)),
  };
}

export function adapterFiles(adapter: TestAdapter, chunkSizes?: readonly number[]): OfferedFiles {
  return memoryFiles(adapterContents(adapter), chunkSizes);
}

/** The checkpoint of a folder with W + scale B A in the place of every W that the adapter changes, in f32 (computed in f64). */
export function mergedFiles(folder: string, adapter: TestAdapter): OfferedFiles {
  return memoryFiles(mergedContents(folder, adapter));
}

/** The same, as the bytes of its files by their names. */
export function mergedContents(folder: string, { pairs, scale }: TestAdapter): Record<string, Uint8Array> {
  const file = readFileSync(join(folder, 'model.safetensors'));
  const length = headerLength(file.subarray(0, PREFIX_BYTES), file.length, 'model.safetensors');
  const tensors: TestTensors = {};
  for (const { name, dtype, shape, begin, end } of parseHeader(
    file.subarray(PREFIX_BYTES, PREFIX_BYTES + length),
    file.length,
    'model.safetensors',
  )) {
    if (!isFloatType(dtype)) throw new Error(`${name} is no float`);
    const values = widen(file.subarray(begin, end), dtype);
    const pair = pairs.get(name.replace(/\.weight$/, ''));
    if (pair) addProduct(values, pair, scale);
    tensors[name] = { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) };
  }
  const others = readdirSync(folder).filter((each) => each.endsWith('.json') && each !== 'self-test.json');
  return {
    ...Object.fromEntries(others.map((each) => [each, readFileSync(join(folder, each))])),
    'model.safetensors': safetensorsFile(tensors),
  };
}

function addProduct(weight: Float32Array, { rank, a, b }: LoraPair, scale: number): void {
  const inputs = a.length / rank;
  for (let row = 0; row < weight.length / inputs; row++) {
    for (let k = 0; k < inputs; k++) {
      let sum = 0;
      for (let i = 0; i < rank; i++) sum += b[row * rank + i]! * a[i * inputs + k]!;
      weight[row * inputs + k]! += scale * sum;
    }
  }
}
