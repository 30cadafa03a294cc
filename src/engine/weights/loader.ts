import { EngineError } from '../api.ts';
import { type ModelFiles, offeredFile, readModelFile } from '../files/source.ts';
import { readGgufHeader } from '../gguf/header.ts';
import type { GgufPart } from '../gguf/parts.ts';
import { ggufWeightBytes } from '../gguf/read-header.ts';
import { isBlockDtype } from '../kernels/dtype.ts';
import type { ModelSpec, TensorRole, WeightSpec } from '../model/spec.ts';
import { ChunkReader } from './chunk-reader.ts';
import { sideBySide, widen } from './float16.ts';
import type { LoadedWeight, LoadedWeights, LoadOptions } from './loaded.ts';
import { type PlannedWeight, placesOf } from './parts.ts';
import { repackRows } from './repack.ts';
import { RowConverter } from './row-converter.ts';
import { headerLength, PREFIX_BYTES, parseHeader } from './safetensors.ts';
import { isFloatType, TENSOR_TYPES, type TensorInfo } from './tensor-types.ts';
import { type Placement, type PlanOptions, WeightPlan } from './weight-plan.ts';

/** Bytes handed to the queue between two waits for it: bounds the copies that the browser holds. */
const BYTES_IN_FLIGHT = 64 * 1024 * 1024;

/** STORAGE | COPY_DST | COPY_SRC as plain numbers, since the global `GPUBufferUsage` is missing in Node. */
const WEIGHT_USAGE = 0x80 | 0x08 | 0x04;

/** Brings the tensors of a checkpoint's files into GPU buffers, file by file. */
export class WeightLoader {
  private readonly planOptions: PlanOptions;
  private readonly plan: WeightPlan;
  private readonly buffers = new Map<PlannedWeight, GPUBuffer>();
  private readonly converter: RowConverter | null;
  private ropeFactors: readonly number[] | null = null;
  private unflushed = 0;

  constructor(
    private readonly device: GPUDevice,
    private readonly spec: ModelSpec,
    private readonly options: LoadOptions,
  ) {
    const { dtype = 'auto', quantization = 'none', shaders } = options;
    const converts = dtype !== 'auto' || quantization !== 'none';
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    this.planOptions = { maxBufferBytes: Math.min(maxBufferSize, maxStorageBufferBindingSize), ...options };
    this.plan = new WeightPlan(spec, this.planOptions);
    if (converts && !shaders) throw new EngineError('internal', 'Converting weights needs the shaders.');
    this.converter = converts && shaders ? new RowConverter(device, shaders) : null;
  }

  /** Throws `EngineError` code `out_of_memory` where `bytes` are more than may be used. */
  refuseAbove(bytes: number, where: string): void {
    const { maxBytes } = this.options;
    if (maxBytes === undefined || bytes <= maxBytes) return;
    throw new EngineError(
      'out_of_memory',
      `${where}: its weights take ${bytes} bytes of GPU memory, and beside working memory and the KV blocks of one sequence there is room for ${maxBytes}. Choose a smaller model or --quantization, lower --max-model-len, or raise --gpu-memory-utilization.`,
    );
  }

  /** All files' headers, before the first is loaded. Throws `EngineError` where the weights do not fit the model, or the memory. */
  foresee(parts: readonly GgufPart[]): void {
    this.refuseAbove(ggufWeightBytes(parts, this.spec, this.planOptions), parts[0]!.file);
    this.plan.foresee(parts.flatMap(({ header }) => header.tensors));
  }

  /** Loads all tensors of one file. */
  async load(files: ModelFiles, path: string, onProgress: (loaded: number) => void): Promise<void> {
    const { size } = offeredFile(files.offer, path);
    const reader = new ChunkReader(readModelFile(files, path, onProgress));
    try {
      const { tensors, bytes } = await readHeader(reader, size, path);
      const placements = this.plan.place(tensors, path);
      await this.allocate(
        placements.filter((p) => p !== null),
        path,
      );
      let at = bytes;
      for (const [i, tensor] of tensors.entries()) {
        await reader.skip(tensor.begin - at);
        const placement = placements[i];
        if (placement) await this.upload(placement, reader);
        else await reader.skip(tensor.end - tensor.begin);
        at = tensor.end;
      }
      await reader.drain();
    } finally {
      await reader.close();
    }
  }

  private async allocate(placements: readonly Placement[], path: string): Promise<void> {
    this.refuseAbove(this.plan.bytes, path);
    const fresh = new Set(placements.flatMap(({ parts }) => parts).filter((part) => !this.buffers.has(part)));
    this.device.pushErrorScope('validation');
    this.device.pushErrorScope('out-of-memory');
    for (const weight of fresh) {
      const { spec, bytes } = weight;
      this.buffers.set(weight, this.device.createBuffer({ label: nameOf(spec), size: bytes, usage: WEIGHT_USAGE }));
    }
    const [memory, invalid] = await Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
    if (memory) {
      throw new EngineError(
        'out_of_memory',
        `The GPU has no room for the ${this.plan.bytes} bytes of this model's weights (${memory.message}). Close other pages that use it, or choose a smaller model.`,
      );
    }
    if (invalid) throw new EngineError('internal', `Allocating weights failed: ${invalid.message}`);
  }

  private async upload(placement: Placement, reader: ChunkReader): Promise<void> {
    const { tensor, source, spec, parts, row } = placement;
    if (spec.cols === 1) return await this.uploadVector(placement, reader);
    const { values, bytes } = TENSOR_TYPES[tensor.dtype];
    const rowBytes = (spec.cols / values) * bytes;
    const runRows = source.runs?.rows ?? source.rows;
    for (let run = 0; run * runRows < source.rows; run++) {
      let first = row + run * (source.runs?.every ?? 0);
      // Heads are put in order as wholes.
      for await (const piece of reader.units(runRows * rowBytes, rowBytes * (source.interleaved ?? 1))) {
        const ordered = source.interleaved === undefined ? piece : sideBySide(piece, rowBytes, source.interleaved);
        let at = 0;
        for (const place of placesOf(parts, first, piece.byteLength / rowBytes)) {
          const next = at + place.rows * rowBytes;
          await this.uploadRows(ordered.subarray(at, next), tensor, place.part, place.row);
          at = next;
        }
        first += piece.byteLength / rowBytes;
      }
    }
  }

  private async uploadVector({ tensor, source, spec, parts, row }: Placement, reader: ChunkReader): Promise<void> {
    const bytes = await reader.exactly(tensor.end - tensor.begin);
    if (!isFloatType(tensor.dtype)) throw new EngineError('internal', `A vector is planned as ${tensor.dtype}.`);
    const element = TENSOR_TYPES[tensor.dtype].bytes;
    const ordered = source.interleaved === undefined ? bytes : sideBySide(bytes, element, source.interleaved);
    const values = widen(ordered, tensor.dtype);
    if (spec.role === 'ropeFactors') this.ropeFactors = [...values];
    await this.write(parts[0]!, row * 4, values);
  }

  /** Whole rows of a tensor, from row `row` of a part on. */
  private async uploadRows(rows: Uint8Array, tensor: TensorInfo, weight: PlannedWeight, row: number): Promise<void> {
    const { held } = TENSOR_TYPES[tensor.dtype];
    if (isFloatType(tensor.dtype) && weight.dtype === held) {
      await this.write(weight, row * weight.layout.rowBytes, rows);
    } else if (!isFloatType(tensor.dtype)) {
      const packed = repackRows(tensor.dtype, rows, weight.spec.cols);
      const { rowBytes, scalesAt, scaleRowBytes } = weight.layout;
      await this.write(weight, row * rowBytes, packed.integers);
      await this.write(weight, scalesAt + row * scaleRowBytes, packed.scales);
    } else if (this.converter && !isBlockDtype(held)) {
      await this.converter.write(rows, held, weight, this.buffers.get(weight)!, row);
      await this.flush(rows.byteLength);
    } else throw new EngineError('internal', `${tensor.dtype} is planned as ${weight.dtype}.`);
  }

  private async write(weight: PlannedWeight, offset: number, data: ArrayBufferView): Promise<void> {
    const buffer = this.buffers.get(weight)!;
    this.device.queue.writeBuffer(buffer, offset, data.buffer, data.byteOffset, data.byteLength);
    await this.flush(data.byteLength);
  }

  private async flush(bytes: number): Promise<void> {
    this.unflushed += bytes;
    if (this.unflushed < BYTES_IN_FLIGHT) return;
    this.unflushed = 0;
    this.device.queue.submit([]);
    await this.device.queue.onSubmittedWorkDone();
  }

  /** The weights, once all files are loaded. Throws `EngineError` code `model` where tensors are missing. */
  async finish(where: string): Promise<LoadedWeights> {
    this.plan.finish(where);
    const clamped = (await this.converter?.clampedNumbers()) ?? 0;
    if (clamped > 0) this.options.onClamped?.(clamped);
    this.converter?.destroy();
    return this.over(this.buffers);
  }

  private over(buffers: ReadonlyMap<PlannedWeight, GPUBuffer>): LoadedWeights {
    const loaded = new Map<string, LoadedWeight[]>();
    const weights = [...buffers].sort(([a], [b]) => a.firstOutput - b.firstOutput);
    for (const [weight, buffer] of weights) {
      const name = nameOf(weight.spec);
      loaded.set(name, [...(loaded.get(name) ?? []), of(weight, buffer)]);
    }
    const { tiedEmbeddings, architecture } = this.spec;
    const partsOf = (role: TensorRole, layer: number | null): readonly LoadedWeight[] => {
      const name = nameOf({ role: role === 'lmHead' && tiedEmbeddings ? 'embed' : role, layer });
      const found = loaded.get(name);
      if (found === undefined) throw new EngineError('internal', `${architecture} has no weight ${name}.`);
      return found;
    };
    const matrices = [...buffers.keys()].filter(({ spec }) => spec.cols > 1);
    return {
      bytes: this.plan.bytes,
      dtypes: [...new Set(matrices.map(({ dtype }) => dtype))].sort().join('+'),
      ropeFactors: this.ropeFactors,
      parts: partsOf,
      get: (role, layer) => {
        const [only, ...more] = partsOf(role, layer);
        if (only && more.length === 0) return only;
        throw new EngineError('internal', `${nameOf({ role, layer })} is in parts.`);
      },
      buffers: [...buffers.values()],
      over: (moved) => this.over(new Map([...buffers].map(([weight, buffer]) => [weight, moved.get(buffer)!]))),
      destroy: () => {
        for (const buffer of buffers.values()) buffer.destroy();
      },
    };
  }

  destroy(): void {
    this.converter?.destroy();
    for (const buffer of this.buffers.values()) buffer.destroy();
  }
}

async function readHeader(
  reader: ChunkReader,
  size: number,
  path: string,
): Promise<{ tensors: readonly TensorInfo[]; bytes: number }> {
  if (path.endsWith('.gguf')) return await readGgufHeader(reader, size, path, () => false);
  const length = headerLength(await reader.exactly(Math.min(PREFIX_BYTES, size)), size, path);
  const tensors = parseHeader(await reader.exactly(length), size, path);
  return { tensors, bytes: PREFIX_BYTES + length };
}

function of({ spec, layout, ...part }: PlannedWeight, buffer: GPUBuffer): LoadedWeight {
  const { dtype, firstOutput, outputs, rows } = part;
  return { buffer, dtype, scalesAt: layout.scalesAt / 4, firstOutput, outputs, rows, cols: spec.cols };
}

function nameOf(weight: Pick<WeightSpec, 'role' | 'layer'>): string {
  return weight.layer === null ? weight.role : `layer ${weight.layer} ${weight.role}`;
}
