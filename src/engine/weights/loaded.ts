import type { ShaderLibrary } from '../gpu/shader-source.ts';
import type { WeightDtype } from '../kernels/dtype.ts';
import type { TensorRole } from '../model/spec.ts';
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
