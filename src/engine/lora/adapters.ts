import { EngineError } from '../api.ts';
import type { ModelFiles } from '../files/source.ts';
import { allocate } from '../gpu/allocate.ts';
import type { ModelSpec } from '../model/spec.ts';
import type { LoraSizes } from '../tables.ts';
import type { Loras } from './loras.ts';
import type { LoraPart, PlacedTensor } from './peft.ts';
import { readLoraAdapter } from './read-adapter.ts';
import { LORA_SITES, type LoraProduct, type LoraSite, loraProducts, productBytes } from './sites.ts';

/** A LoRA adapter on the GPU. */
export interface LoraAdapter {
  readonly name: string;
  /** Its place in the buffers, from 0. */
  readonly place: number;
}

/** The matrices of all adapters for one product. */
export interface LoraBuffers {
  readonly product: LoraProduct;
  /** [adapter][target][rank][inputs] f32; ranks that an adapter does not have are zeros, and so are targets. */
  readonly a: GPUBuffer;
  /** [adapter][rank][columns] f32, with the adapter's scale in it. */
  readonly b: GPUBuffer;
}

interface Loaded extends LoraAdapter {
  /** Bits of `LORA_SITES`. */
  readonly sites: number;
  users: number;
  /** Set when it is to go: called when nobody uses it any more. */
  leave: (() => void) | null;
}

/**
 * The LoRA adapters of a model on one GPU, shared by all engines of it. The buffers are made with the first adapter, for as many as there
 * may be, and freed with the last. An adapter that is unloaded stays until the last sequence that goes through it has ended.
 */
export class LoraAdapters implements Loras {
  /** Tells apart the buffers of different times: what was prepared with those of another is of no use any more. */
  generation = 0;
  private readonly products: readonly LoraProduct[];
  private readonly loaded = new Map<string, Loaded>();
  /** Unloaded, and still in use; each until nobody is. */
  private readonly leaving = new Map<string, Promise<void>>();
  private readonly places: number[];
  private readonly freed: ((name: string) => void)[] = [];
  private buffers: Promise<ReadonlyMap<LoraProduct, LoraBuffers>> | null = null;
  private made: ReadonlyMap<LoraProduct, LoraBuffers> | null = null;
  private closed = false;

  constructor(
    private readonly device: GPUDevice,
    spec: ModelSpec,
    readonly sizes: LoraSizes,
  ) {
    this.products = loraProducts(spec);
    this.places = Array.from({ length: sizes.adapters }, (_, i) => sizes.adapters - 1 - i);
  }

  get capacity(): number {
    return this.sizes.adapters;
  }

  get names(): string[] {
    return [...this.loaded.values()].filter(({ leave }) => leave === null).map(({ name }) => name);
  }

  /** Bits of `LORA_SITES` that any of the adapters changes. */
  get sites(): number {
    return [...this.loaded.values()].reduce((sum, { sites }) => sum | sites, 0);
  }

  /** Called with the name of each adapter that is gone from the GPU; nothing computed with it may be used any more. */
  onFreed(listener: (name: string) => void): void {
    this.freed.push(listener);
  }

  async load(name: string, files: ModelFiles): Promise<void> {
    await this.leaving.get(name);
    while (this.places.length === 0 && this.leaving.size > 0) await Promise.race(this.leaving.values());
    if (this.closed) throw new EngineError('internal', 'The engine is closed.');
    if (this.loaded.has(name)) throw new EngineError('model', `LoRA adapter ${name} is loaded already.`);
    const place = this.places.pop();
    if (place === undefined)
      throw new EngineError(
        'overloaded',
        `LoRA adapter ${name}: there are ${this.sizes.adapters} already, which is all there may be. Unload one, or raise --max-loras.`,
      );
    let sites = 0;
    try {
      const buffers = await this.open(place);
      await readLoraAdapter(name, files, this.products, this.sizes.rank, (tensor, values) => {
        sites |= 1 << LORA_SITES.indexOf(tensor.part.product.site);
        this.write(buffers.get(tensor.part.product)!, place, tensor, values);
      });
      if (this.closed) throw new EngineError('internal', 'The engine is closed.');
    } catch (error) {
      this.giveBack(place);
      throw error;
    }
    this.loaded.set(name, { name, place, sites, users: 0, leave: null });
  }

  unload(name: string): Promise<void> {
    const adapter = this.loaded.get(name);
    if (adapter === undefined) return Promise.resolve();
    const going =
      this.leaving.get(name) ??
      new Promise<void>((resolve) => {
        adapter.leave = resolve;
      });
    this.leaving.set(name, going);
    this.freeUnused(adapter);
    return going;
  }

  /** One of `names`, for one sequence, until `release`. */
  take(name: string): LoraAdapter {
    const adapter = this.loaded.get(name);
    if (adapter === undefined || adapter.leave !== null) throw new Error(`LoRA adapter ${name} is not there to take`);
    adapter.users++;
    return adapter;
  }

  /** The same of one that is in use: it may be leaving. */
  hold(adapter: LoraAdapter): void {
    const loaded = this.loaded.get(adapter.name);
    if (loaded !== adapter) throw new Error(`LoRA adapter ${adapter.name} is held by nobody`);
    loaded.users++;
  }

  release({ name }: LoraAdapter): void {
    const adapter = this.loaded.get(name);
    if (adapter === undefined) return;
    adapter.users--;
    this.freeUnused(adapter);
  }

  /** The matrices for one product of a layer; undefined where adapters change nothing. To be asked while one is in use. */
  of(site: LoraSite, layer: number): LoraBuffers | undefined {
    for (const [product, buffers] of this.made ?? [])
      if (product.site === site && product.layer === layer) return buffers;
    return undefined;
  }

  /** Frees everything. */
  destroy(): void {
    this.closed = true;
    for (const { leave } of this.loaded.values()) leave?.();
    this.loaded.clear();
    this.leaving.clear();
    this.drop();
  }

  /** The buffers, with zeros at `place`. */
  private async open(place: number): Promise<ReadonlyMap<LoraProduct, LoraBuffers>> {
    if (this.buffers === null) {
      this.buffers = this.make();
      this.buffers.catch(() => {
        this.buffers = null;
      });
    }
    const buffers = await this.buffers;
    if (this.closed) throw new EngineError('internal', 'The engine is closed.');
    const encoder = this.device.createCommandEncoder();
    for (const { product, a, b } of buffers.values()) {
      const bytes = productBytes(product, { ...this.sizes, adapters: 1 });
      encoder.clearBuffer(a, place * bytes.a, bytes.a);
      encoder.clearBuffer(b, place * bytes.b, bytes.b);
    }
    this.device.queue.submit([encoder.finish()]);
    return buffers;
  }

  private async make(): Promise<ReadonlyMap<LoraProduct, LoraBuffers>> {
    const sizes: Record<string, number> = {};
    for (const product of this.products) {
      const { a, b } = productBytes(product, this.sizes);
      sizes[label(product, 'A')] = a;
      sizes[label(product, 'B')] = b;
    }
    const made = await allocate(this.device, 'LoRA adapters', sizes);
    const buffers = new Map(
      this.products.map((product) => [
        product,
        { product, a: made[label(product, 'A')]!, b: made[label(product, 'B')]! },
      ]),
    );
    if (this.closed) {
      for (const buffer of Object.values(made)) buffer.destroy();
      throw new EngineError('internal', 'The engine is closed.');
    }
    this.made = buffers;
    this.generation++;
    return buffers;
  }

  private write(
    { product, a, b }: LoraBuffers,
    place: number,
    { part, matrix }: PlacedTensor,
    values: Float32Array<ArrayBuffer>,
  ): void {
    const { queue } = this.device;
    const { rank } = this.sizes;
    const { inputs, columns, targets } = product;
    if (matrix === 'A') {
      const at = (place * targets.length + part.target) * rank * inputs * 4;
      queue.writeBuffer(a, at, values.buffer, values.byteOffset, values.byteLength);
      return;
    }
    const { firstColumn } = targets[part.target]!;
    for (const [i, row] of scaledColumns(values, part).entries())
      queue.writeBuffer(b, ((place * rank + i) * columns + firstColumn) * 4, row.buffer, 0, row.byteLength);
  }

  private freeUnused(adapter: Loaded): void {
    const { name, place, users, leave } = adapter;
    if (leave === null || users > 0 || this.loaded.get(name) !== adapter) return;
    this.loaded.delete(name);
    this.leaving.delete(name);
    this.giveBack(place);
    for (const listener of this.freed) listener(name);
    leave();
  }

  private giveBack(place: number): void {
    this.places.push(place);
    if (this.places.length === this.sizes.adapters) this.drop();
  }

  private drop(): void {
    for (const { a, b } of this.made?.values() ?? []) {
      a.destroy();
      b.destroy();
    }
    this.made = null;
    this.buffers = null;
  }
}

/** B [columns][rank] column by column, times the scale. */
function scaledColumns(values: Float32Array, { rank, scale }: LoraPart): Float32Array<ArrayBuffer>[] {
  const columns = values.length / rank;
  return Array.from({ length: rank }, (_, i) =>
    Float32Array.from({ length: columns }, (_x, column) => scale * values[column * rank + i]!),
  );
}

function label({ site, layer }: LoraProduct, matrix: string): string {
  return `layer ${layer} ${site} LoRA ${matrix}`;
}
