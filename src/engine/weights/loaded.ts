import type { ShaderLibrary } from '../gpu/shader-source.ts';
import type { WeightDtype } from '../kernels/dtype.ts';
import type { TensorRole } from '../model/spec.ts';
import type { DtypeOption, QuantizationOption } from './weight-plan.ts';

/**
 * One buffer of a weight on the GPU: `rows` x `cols` values, row-major, in u32 words as `dtype` says: `outputs` rows of each of the
 * weight's matrices, one matrix after the other.
 */
export interface LoadedWeight {
  readonly buffer: GPUBuffer;
  readonly dtype: WeightDtype;
  /** Word of the buffer where the scales of integers begin; 0 for floats. */
  readonly scalesAt: number;
  /** Of the outputs of the weight, where it is in parts: the first that this part holds. */
  readonly firstOutput: number;
  readonly outputs: number;
  readonly rows: number;
  readonly cols: number;
}

/** All weights of a model on the GPU. */
export interface LoadedWeights {
  /** A vector. `layer` is null for weights outside the layers. Throws for a weight that the model lacks or that is in parts. */
  get(role: TensorRole, layer: number | null): LoadedWeight;
  /**
   * A matrix, in the order of its outputs: in several buffers where one would be larger than a binding, or q, k and v are of several dtypes.
   * The head of a tied model is its embedding.
   */
  parts(role: TensorRole, layer: number | null): readonly LoadedWeight[];
  /** What the matrices are held as, each dtype once: `bf16`, `int4-min+int8-16`. */
  readonly dtypes: string;
  /** Divisors of the rope frequencies, where the checkpoint has them as a tensor. */
  readonly ropeFactors: readonly number[] | null;
  /** Size of all buffers. */
  readonly bytes: number;
  /** Each of them once. */
  readonly buffers: readonly GPUBuffer[];
  /** The same weights in other buffers, which hold the same bytes: `moved` names one for each of these. */
  over(moved: ReadonlyMap<GPUBuffer, GPUBuffer>): LoadedWeights;
  destroy(): void;
}

export interface LoadOptions {
  readonly dtype?: DtypeOption;
  /** Floats become integers while they load; the shaders do that, and convert floats to `dtype`. */
  readonly quantization?: QuantizationOption;
  /** Needed to quantize and to convert. */
  readonly shaders?: ShaderLibrary;
  /** Most bytes of GPU buffers; more is refused before anything is allocated. */
  readonly maxBytes?: number;
  /** Most bytes of one buffer; all that the device binds, where it is absent. */
  readonly maxBufferBytes?: number;
  /** Hears how many numbers became +-65504, because a f16 (`dtype`) holds no larger ones; not where none did. */
  readonly onClamped?: (numbers: number) => void;
  /** Bytes of weight files read so far, of all. */
  readonly onProgress?: (loaded: number, total: number) => void;
}
