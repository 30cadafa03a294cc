import { EngineError } from '../api.ts';
import { type ModelFiles, offeredFile, readModelFile, readModelJson } from '../files/source.ts';
import type { ModelSpec, TensorRole, WeightSpec } from '../model/spec.ts';
import { modelError } from '../model-error.ts';
import { checkpointFiles, INDEX } from './checkpoint.ts';
import { ChunkReader } from './chunk-reader.ts';
import { widen } from './float16.ts';
import { headerLength, PREFIX_BYTES, parseHeader } from './safetensors.ts';
import { type DtypeOption, type Placement, type WeightDtype, WeightPlan } from './weight-plan.ts';

/** One weight on the GPU: `rows` x `cols` values, row-major, packed into u32 words as `dtype` says. */
export interface LoadedWeight {
  readonly buffer: GPUBuffer;
  readonly dtype: WeightDtype;
  readonly rows: number;
  readonly cols: number;
}

/** All weights of a model on the GPU. */
export interface LoadedWeights {
  /** `layer` is null for weights outside the layers. The head of a tied model is its embedding. Throws for a weight the model lacks. */
  get(role: TensorRole, layer: number | null): LoadedWeight;
  /** Size of all buffers. */
  readonly bytes: number;
  destroy(): void;
}

export interface LoadOptions {
  readonly dtype?: DtypeOption;
  /** Most bytes of GPU buffers; more is refused before anything is allocated. */
  readonly maxBytes?: number;
  /** Bytes of weight files read so far, of all. */
  readonly onProgress?: (loaded: number, total: number) => void;
}

/** Bytes handed to the queue between two waits for it: bounds the copies that the browser holds. */
const BYTES_IN_FLIGHT = 64 * 1024 * 1024;

/** STORAGE | COPY_DST | COPY_SRC as plain numbers, since the global `GPUBufferUsage` is missing in Node. */
const WEIGHT_USAGE = 0x80 | 0x08 | 0x04;

/**
 * Streams a safetensors checkpoint (one file, or shards with an index) into GPU buffers, one per `WeightSpec`, a chunk at
 * a time. Matrices keep the checkpoint's dtype, vectors become f32.
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
  const paths = await checkpointFiles(offer.name, names, () => readModelJson(files, INDEX));
  const total = paths.reduce((sum, path) => sum + offeredFile(files.offer, path).size, 0);
  const loader = new Loader(device, spec, options);
  // The header of a later shard is not known yet when the first one allocates; the model's size is.
  if (paths.length > 1) loader.refuseAbove(leastBytes(spec, total), files.offer.name);
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

class Loader {
  private readonly plan: WeightPlan;
  private readonly buffers = new Map<WeightSpec, LoadedWeight>();
  private unflushed = 0;

  constructor(
    private readonly device: GPUDevice,
    private readonly spec: ModelSpec,
    private readonly options: LoadOptions,
  ) {
    this.plan = new WeightPlan(spec, options.dtype);
  }

  refuseAbove(bytes: number, where: string): void {
    const { maxBytes } = this.options;
    if (maxBytes === undefined || bytes <= maxBytes) return;
    throw new EngineError(
      'out_of_memory',
      `${where}: its weights take ${bytes} bytes of GPU memory, and beside working memory and the KV blocks of one sequence there is room for ${maxBytes}. Choose a smaller model, lower --max-model-len, or raise --gpu-memory-utilization.`,
    );
  }

  async load(files: ModelFiles, path: string, onProgress: (loaded: number) => void): Promise<void> {
    const { size } = offeredFile(files.offer, path);
    const reader = new ChunkReader(readModelFile(files, path, onProgress));
    try {
      const length = headerLength(await reader.exactly(Math.min(PREFIX_BYTES, size)), size, path);
      const tensors = parseHeader(await reader.exactly(length), size, path);
      const placements = this.plan.place(tensors, path);
      await this.allocate(
        placements.filter((p) => p !== null),
        path,
      );
      for (const [i, tensor] of tensors.entries()) {
        const bytes = tensor.end - tensor.begin;
        const placement = placements[i];
        if (placement) await this.upload(placement, bytes, reader);
        else await reader.skip(bytes);
      }
      await reader.drain();
    } finally {
      await reader.close();
    }
  }

  private async allocate(placements: readonly Placement[], path: string): Promise<void> {
    this.refuseAbove(this.plan.bytes, path);
    const { maxBufferSize, maxStorageBufferBindingSize } = this.device.limits;
    const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
    const fresh = new Set(placements.map((p) => p.weight).filter((w) => !this.buffers.has(w.spec)));
    for (const { spec, bytes } of fresh) {
      if (bytes <= limit) continue;
      throw modelError(
        path,
        `${nameOf(spec)} takes ${bytes} bytes, this device binds at most ${limit}. Choose a smaller model.`,
      );
    }
    this.device.pushErrorScope('validation');
    this.device.pushErrorScope('out-of-memory');
    for (const { spec, dtype, bytes } of fresh) {
      const buffer = this.device.createBuffer({ label: nameOf(spec), size: bytes, usage: WEIGHT_USAGE });
      this.buffers.set(spec, { buffer, dtype, rows: spec.rows, cols: spec.cols });
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

  private async upload({ tensor, weight, offset }: Placement, bytes: number, reader: ChunkReader): Promise<void> {
    const { buffer } = this.buffers.get(weight.spec)!;
    if (weight.spec.cols === 1) {
      await this.write(buffer, offset, widen(await reader.exactly(bytes), tensor.dtype));
      return;
    }
    let at = offset;
    for await (const piece of reader.words(bytes)) {
      await this.write(buffer, at, piece);
      at += piece.byteLength;
    }
  }

  private async write(buffer: GPUBuffer, offset: number, data: ArrayBufferView): Promise<void> {
    this.device.queue.writeBuffer(buffer, offset, data.buffer, data.byteOffset, data.byteLength);
    this.unflushed += data.byteLength;
    if (this.unflushed < BYTES_IN_FLIGHT) return;
    this.unflushed = 0;
    this.device.queue.submit([]);
    await this.device.queue.onSubmittedWorkDone();
  }

  finish(where: string): LoadedWeights {
    this.plan.finish(where);
    const byName = new Map([...this.buffers].map(([spec, loaded]) => [nameOf(spec), loaded]));
    const { tiedEmbeddings, architecture } = this.spec;
    return {
      bytes: this.plan.bytes,
      get: (role, layer) => {
        const name = nameOf({ role: role === 'lmHead' && tiedEmbeddings ? 'embed' : role, layer });
        const loaded = byName.get(name);
        if (!loaded) throw new EngineError('internal', `${architecture} has no weight ${name}.`);
        return loaded;
      },
      destroy: () => this.destroy(),
    };
  }

  destroy(): void {
    for (const { buffer } of this.buffers.values()) buffer.destroy();
  }
}

function nameOf(weight: Pick<WeightSpec, 'role' | 'layer'>): string {
  return weight.layer === null ? weight.role : `layer ${weight.layer} ${weight.role}`;
}
