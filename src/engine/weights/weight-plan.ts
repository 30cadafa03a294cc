import { isBlockDtype, type WeightDtype } from '../kernels/dtype.ts';
import type { ModelSpec, WeightSource, WeightSpec } from '../model/spec.ts';
import { modelError } from '../model-error.ts';
import { type OutputRange, outputsOf, type PlannedWeight, placesOf, splitWeight } from './parts.ts';
import { isFloatType, TENSOR_TYPES, type TensorInfo } from './tensor-types.ts';

/** `--dtype`: of float matrices; `auto` keeps the checkpoint's own. */
export type DtypeOption = 'auto' | 'f32' | 'bf16' | 'f16';
/** `--quantization`. */
export type QuantizationOption = 'none' | 'int8' | 'int4';

/** Where one tensor of a file goes. */
export interface Placement {
  readonly tensor: TensorInfo;
  readonly source: WeightSource;
  readonly spec: WeightSpec;
  /** All of the weight's. */
  readonly parts: readonly PlannedWeight[];
  /** Row of the weight where its first row goes. */
  readonly row: number;
}

/** How weights are held. */
export interface PlanOptions {
  readonly dtype?: DtypeOption;
  readonly quantization?: QuantizationOption;
  /** Of one buffer. */
  readonly maxBufferBytes?: number;
}

interface Slot {
  readonly spec: WeightSpec;
  readonly source: WeightSource;
  readonly firstRow: number;
}

/** Outputs that are held in one dtype. */
interface Run extends OutputRange {
  readonly dtype: WeightDtype;
}

/** What a weight is held as once the first of its tensors is known; `from` is that tensor. */
interface Held {
  readonly parts: readonly PlannedWeight[];
  readonly from: TensorInfo;
}

/** Matches a checkpoint's tensors, file by file, with the weights of a model: each expected tensor exactly once. */
export class WeightPlan {
  private readonly slots = new Map<string, Slot>();
  private readonly seen = new Set<string>();
  private readonly foreseen = new Map<string, TensorInfo>();
  private readonly held = new Map<WeightSpec, Held>();
  private readonly dtype: DtypeOption;
  private readonly quantization: QuantizationOption;
  private readonly maxBufferBytes: number;
  private planned = 0;

  constructor(
    private readonly model: ModelSpec,
    { dtype = 'auto', quantization = 'none', maxBufferBytes = Number.MAX_SAFE_INTEGER }: PlanOptions = {},
  ) {
    this.dtype = dtype;
    this.quantization = quantization;
    this.maxBufferBytes = maxBufferBytes;
    for (const spec of model.weights) {
      let firstRow = 0;
      for (const source of spec.sources) {
        this.slots.set(source.name, { spec, source, firstRow: source.runs?.first ?? firstRow });
        firstRow += source.rows;
      }
    }
  }

  /** Bytes of the buffers of all weights planned so far. */
  get bytes(): number {
    return this.planned;
  }

  /** Tensors of all files, where they are known before the first is placed: what q, k and v are held as may hang on those of another file. */
  foresee(tensors: readonly TensorInfo[]): void {
    for (const tensor of tensors.map((each) => this.named(each))) this.foreseen.set(tensor.name, tensor);
  }

  /**
   * Where the tensors of one file go, in their order; tensors known to be superfluous have no placement.
   * Throws `EngineError` code `model` that names the tensor: unknown, twice, of another shape, of another dtype than
   * the tensors it is stacked with, or with rows above the limit of a buffer.
   */
  place(given: readonly TensorInfo[], file: string): (Placement | null)[] {
    const tensors = given.map((tensor) => this.named(tensor));
    const known = new Map([...this.foreseen, ...tensors.map((tensor) => [tensor.name, tensor] as const)]);
    return tensors.map((tensor) => {
      const where = `${file}: tensor ${tensor.name}`;
      const slot = this.slots.get(tensor.name);
      if (!slot) {
        if (this.superfluous(tensor.name)) return null;
        throw modelError(where, `is not part of ${this.model.architecture} with ${this.model.layers.length} layers.`);
      }
      if (this.seen.has(tensor.name)) throw modelError(where, 'was already in another file of this checkpoint.');
      this.seen.add(tensor.name);
      const { spec, source, firstRow } = slot;
      const shape = shapeOf(spec, source);
      if (tensor.shape.join() !== shape.join()) {
        throw modelError(
          where,
          `has shape [${tensor.shape.join(', ')}], the model's configuration asks for [${shape.join(', ')}].`,
        );
      }
      const { parts, from } = this.weightOf(spec, tensor, known, where);
      const [place] = placesOf(parts, firstRow, 1);
      if (spec.cols > 1 && place!.part.dtype !== this.dtypeOf(spec, tensor, where)) {
        throw modelError(
          where,
          `is ${tensor.dtype}, but ${from.name}, which it is stacked with, is ${from.dtype}; they must be held alike.`,
        );
      }
      return { tensor, source, spec, parts, row: firstRow };
    });
  }

  /** Throws `EngineError` code `model` that names the tensors no file had. */
  finish(where: string): void {
    const missing = [...this.slots.keys()].filter((name) => !this.seen.has(name));
    if (missing.length === 0) return;
    const more = missing.length > 5 ? `, and ${missing.length - 5} more` : '';
    throw modelError(where, `the checkpoint lacks ${missing.slice(0, 5).join(', ')}${more}.`);
  }

  private weightOf(spec: WeightSpec, from: TensorInfo, known: ReadonlyMap<string, TensorInfo>, where: string): Held {
    const before = this.held.get(spec);
    if (before) return before;
    const parts = this.runsOf(spec, from, known, where).flatMap(({ dtype, ...range }) => {
      const split = splitWeight(spec, range, dtype, this.maxBufferBytes);
      if (split) return split;
      throw modelError(
        where,
        `cannot be split into buffers of ${this.maxBufferBytes} bytes, the most that this device binds. Choose a smaller model, or another device.`,
      );
    });
    this.planned += parts.reduce((sum, { bytes }) => sum + bytes, 0);
    const held = { parts, from };
    this.held.set(spec, held);
    return held;
  }

  /**
   * Runs of sources with one dtype. The product of q, k and v alone may have several: quantized files keep v in more bits than q and k,
   * and its columns are computed apart as well as together.
   */
  private runsOf(spec: WeightSpec, from: TensorInfo, known: ReadonlyMap<string, TensorInfo>, where: string): Run[] {
    const whole = { firstOutput: 0, outputs: outputsOf(spec), dtype: this.dtypeOf(spec, from, where) };
    const tensors = spec.sources.map(({ name }) => known.get(name));
    // Where floats differ, something is wrong with the file.
    if (spec.role !== 'qkv' || tensors.every((tensor) => !tensor || isFloatType(tensor.dtype))) return [whole];
    const runs: { firstOutput: number; outputs: number; dtype: WeightDtype }[] = [];
    let firstOutput = 0;
    for (const [i, { rows }] of spec.sources.entries()) {
      const last = runs.at(-1);
      const tensor = tensors[i];
      // One that is missing is named in the end.
      const dtype = tensor ? this.dtypeOf(spec, tensor, where) : (last?.dtype ?? whole.dtype);
      if (last?.dtype === dtype) last.outputs += rows;
      else runs.push({ firstOutput, outputs: rows, dtype });
      firstOutput += rows;
    }
    return runs;
  }

  /** What a tensor is held as. Throws `EngineError` code `model` for what cannot be held. */
  private dtypeOf(spec: WeightSpec, { dtype: type }: TensorInfo, where: string): WeightDtype {
    const { held } = TENSOR_TYPES[type];
    if (spec.cols === 1) {
      if (isFloatType(type)) return 'f32';
      throw modelError(where, `is ${type}; norms and biases must be F32, BF16 or F16.`);
    }
    if (isBlockDtype(held)) return held;
    const floats = this.dtype === 'auto' ? held : this.dtype;
    if (spec.cols % 2 !== 0 && !(held === 'f32' && floats === 'f32'))
      throw modelError(where, `rows of ${spec.cols} ${type} values as ${floats} are no whole 32-bit words.`);
    return this.quantization !== 'none' && quantizable(spec) ? this.quantization : floats;
  }

  /** Checkpoints of models without their head name their tensors without `model.`. */
  private named(tensor: TensorInfo): TensorInfo {
    const name = `model.${tensor.name}`;
    return this.model.pools && this.slots.has(name) ? { ...tensor, name } : tensor;
  }

  /** Tensors that no model needs: rotary tables of older exports or of another context, the head of a tied model or of one that pools. */
  private superfluous(name: string): boolean {
    const rotary =
      name.endsWith('.rotary_emb.inv_freq') || /^rope_(freqs|factors_long|factors_short)\.weight$/.test(name);
    if (this.model.pools && name === 'output.weight') return true;
    return rotary || ((this.model.tiedEmbeddings || this.model.pools) && name === 'lm_head.weight');
  }
}

/** The router of a mixture of experts stays as it is: it is small, and which experts compute a token hangs on its last bits. */
export function quantizable({ role, cols }: Pick<WeightSpec, 'role' | 'cols'>): boolean {
  return cols > 1 && role !== 'router';
}

function shapeOf(spec: WeightSpec, { rows, runs }: WeightSource): number[] {
  if (spec.cols === 1) return [rows];
  return runs ? [rows / runs.rows, runs.rows, spec.cols] : [rows, spec.cols];
}
