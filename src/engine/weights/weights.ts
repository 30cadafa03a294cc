import { ggufFile } from '../files/gguf-file.ts';
import { type ModelFiles, offeredFile, readModelJson } from '../files/source.ts';
import type { ShaderLibrary } from '../gpu/shader-source.ts';
import type { WeightDtype } from '../kernels/dtype.ts';
import type { ModelSpec, TensorRole } from '../model/spec.ts';
import { checkpointFiles, INDEX } from './checkpoint.ts';
import { WeightLoader } from './loader.ts';
import type { DtypeOption, QuantizationOption } from './weight-plan.ts';

/** One weight on the GPU: `rows` x `cols` values, row-major, in u32 words as `dtype` says. */
export interface LoadedWeight {
  readonly buffer: GPUBuffer;
  readonly dtype: WeightDtype;
  /** Word of the buffer where the scales of integers begin; 0 for floats. */
  readonly scalesAt: number;
  /** Of the rows of the role's weight, where it is in parts: the first that this part holds. */
  readonly firstRow: number;
  readonly rows: number;
  readonly cols: number;
}

/** All weights of a model on the GPU. */
export interface LoadedWeights {
  /** `layer` is null for weights outside the layers. The head of a tied model is its embedding. Throws for a weight the model lacks. */
  get(role: TensorRole, layer: number | null): LoadedWeight;
  /** The same for the one role that may be in parts, each of its own dtype: `qkv`. In the order of their rows. */
  parts(role: 'qkv', layer: number | null): readonly LoadedWeight[];
  /** What the matrices are held as, each dtype once: `bf16`, `int4-min+int8-16`. */
  readonly dtypes: string;
  /** Divisors of the rope frequencies, where the checkpoint has them as a tensor. */
  readonly ropeFactors: readonly number[] | null;
  /** Size of all buffers. */
  readonly bytes: number;
  destroy(): void;
}

export interface LoadOptions {
  readonly dtype?: DtypeOption;
  /** Floats become integers while they load; the shaders do that. */
  readonly quantization?: QuantizationOption;
  /** Needed to quantize. */
  readonly shaders?: ShaderLibrary;
  /** Most bytes of GPU buffers; more is refused before anything is allocated. */
  readonly maxBytes?: number;
  /** Bytes of weight files read so far, of all. */
  readonly onProgress?: (loaded: number, total: number) => void;
}

/**
 * Streams a checkpoint (a GGUF file; or safetensors, one file, or shards with an index) into GPU buffers, one per `WeightSpec`, a chunk
 * at a time. Matrices stay as they are stored (integers in the layout of `lib/blocks.wgsl`), unless floats are to be quantized; vectors
 * become f32.
 * Throws `EngineError` code `model` for files that do not fit the model, are damaged or exceed a limit of the device, and
 * `out_of_memory` when the GPU has no room; all buffers are freed then.
 */
export async function loadWeights(
  device: GPUDevice,
  spec: ModelSpec,
  files: ModelFiles,
  options: LoadOptions = {},
): Promise<LoadedWeights> {
  const { offer } = files;
  const names = offer.files.map(({ path }) => path);
  const gguf = ggufFile(files);
  const paths = gguf ? [gguf] : await checkpointFiles(offer.name, names, () => readModelJson(files, INDEX));
  const total = paths.reduce((sum, path) => sum + offeredFile(files.offer, path).size, 0);
  const loader = new WeightLoader(device, spec, options);
  // The header of a later shard is not known yet when the first one allocates; the model's size is.
  const asStored = (options.quantization ?? 'none') === 'none';
  if (paths.length > 1 && asStored) loader.refuseAbove(leastBytes(spec, total), offer.name);
  try {
    let before = 0;
    for (const path of paths) {
      await loader.load(files, path, (loaded) => options.onProgress?.(before + loaded, total));
      before += offeredFile(files.offer, path).size;
    }
    return loader.finish(files.offer.name);
  } catch (error) {
    loader.destroy();
    throw error;
  }
}

/** What the weights take at the least, by the size of their files: those may hold tensors that no model needs. */
function leastBytes(spec: ModelSpec, fileBytes: number): number {
  const values = spec.weights.reduce((sum, { rows, cols }) => sum + rows * cols, 0);
  return Math.min(fileBytes, values * (fileBytes / values > 3 ? 4 : 2));
}
