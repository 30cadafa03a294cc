import type { ModelSpec, WeightSpec } from '../model/spec.ts';
import { modelError } from '../model-error.ts';
import { ELEMENT_BYTES, type TensorDtype, type TensorInfo } from './safetensors.ts';

/** How a weight lies in its buffer of u32 words: f32, or two 16-bit values per word, the first in the low half. */
export type WeightDtype = 'f32' | 'bf16' | 'f16';

/** `--dtype`: `auto` keeps the checkpoint's own. */
export type DtypeOption = 'auto' | WeightDtype;

const WEIGHT_DTYPES: Readonly<Record<TensorDtype, WeightDtype>> = { F32: 'f32', BF16: 'bf16', F16: 'f16' };
const DTYPE_BYTES: Readonly<Record<WeightDtype, number>> = { f32: 4, bf16: 2, f16: 2 };

/** Buffers end on 16 bytes, so that shaders may bind them as vectors of four words. */
const BUFFER_ALIGNMENT = 16;

/** One weight with the dtype it is held in. Vectors (one column) are widened to f32. */
export interface PlannedWeight {
  readonly spec: WeightSpec;
  readonly dtype: WeightDtype;
  /** Size of its buffer. */
  readonly bytes: number;
}

/** Where one tensor of a file goes. */
export interface Placement {
  readonly tensor: TensorInfo;
  readonly weight: PlannedWeight;
  /** Byte in the weight's buffer. */
  readonly offset: number;
}

interface Slot {
  readonly spec: WeightSpec;
  readonly rows: number;
  readonly firstRow: number;
}

/** Matches a checkpoint's tensors, file by file, with the weights of a model: each expected tensor exactly once. */
export class WeightPlan {
  private readonly slots = new Map<string, Slot>();
  private readonly seen = new Set<string>();
  private readonly stored = new Map<WeightSpec, { tensor: TensorInfo; planned: PlannedWeight }>();
  private planned = 0;

  constructor(
    private readonly model: ModelSpec,
    private readonly dtype: DtypeOption = 'auto',
  ) {
    for (const spec of model.weights) {
      let firstRow = 0;
      for (const { name, rows } of spec.sources) {
        this.slots.set(name, { spec, rows, firstRow });
        firstRow += rows;
      }
    }
  }

  /** Bytes of the buffers of all weights planned so far. */
  get bytes(): number {
    return this.planned;
  }

  /**
   * Where the tensors of one file go, in their order; tensors known to be superfluous have no placement.
   * Throws `EngineError` code `model` that names the tensor: unknown, twice, of another shape, or of another dtype than
   * the tensors it is stacked with.
   */
  place(tensors: readonly TensorInfo[], file: string): (Placement | null)[] {
    return tensors.map((tensor) => {
      const where = `${file}: tensor ${tensor.name}`;
      const slot = this.slots.get(tensor.name);
      if (!slot) {
        if (this.superfluous(tensor.name)) return null;
        throw modelError(where, `is not part of ${this.model.architecture} with ${this.model.layers.length} layers.`);
      }
      if (this.seen.has(tensor.name)) throw modelError(where, 'was already in another file of this checkpoint.');
      this.seen.add(tensor.name);
      const { spec, rows, firstRow } = slot;
      const shape = spec.cols === 1 ? [rows] : [rows, spec.cols];
      if (tensor.shape.join() !== shape.join()) {
        throw modelError(where, `has shape [${tensor.shape.join(', ')}], config.json asks for [${shape.join(', ')}].`);
      }
      const weight = this.weight(spec, tensor, where);
      return { tensor, weight, offset: firstRow * spec.cols * DTYPE_BYTES[weight.dtype] };
    });
  }

  /** Throws `EngineError` code `model` that names the tensors no file had. */
  finish(where: string): void {
    const missing = [...this.slots.keys()].filter((name) => !this.seen.has(name));
    if (missing.length === 0) return;
    const more = missing.length > 5 ? `, and ${missing.length - 5} more` : '';
    throw modelError(where, `the checkpoint lacks ${missing.slice(0, 5).join(', ')}${more}.`);
  }

  private weight(spec: WeightSpec, tensor: TensorInfo, where: string): PlannedWeight {
    const first = this.stored.get(spec);
    if (first) {
      if (spec.cols === 1 || first.tensor.dtype === tensor.dtype) return first.planned;
      throw modelError(
        where,
        `is ${tensor.dtype}, but ${first.tensor.name}, which it is stacked with, is ${first.tensor.dtype}.`,
      );
    }
    const dtype = spec.cols === 1 ? 'f32' : WEIGHT_DTYPES[tensor.dtype];
    if (spec.cols > 1 && this.dtype !== 'auto' && this.dtype !== dtype) {
      throw modelError(
        where,
        `is stored as ${dtype}; converting to --dtype ${this.dtype} is not supported. Use --dtype auto.`,
      );
    }
    if (spec.cols > 1 && (spec.cols * ELEMENT_BYTES[tensor.dtype]) % 4 !== 0) {
      throw modelError(where, `rows of ${spec.cols} ${tensor.dtype} values are no whole 32-bit words.`);
    }
    const exact = spec.rows * spec.cols * DTYPE_BYTES[dtype];
    const bytes = Math.ceil(exact / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT;
    const planned = { spec, dtype, bytes };
    this.stored.set(spec, { tensor, planned });
    this.planned += bytes;
    return planned;
  }

  /** Tensors that older exports carry and no model needs: rotary tables, and the head of a tied model. */
  private superfluous(name: string): boolean {
    return name.endsWith('.rotary_emb.inv_freq') || (this.model.tiedEmbeddings && name === 'lm_head.weight');
  }
}
