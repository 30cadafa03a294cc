import type { EngineInfo } from '../../../src/engine/api.ts';
import type { KvCopies } from '../../../src/engine/kv/copies.ts';
import type { KvSection } from '../../../src/protocol/transfer.ts';
import type { SimulatedGpu } from './simulated-gpu.ts';

type Shape = Pick<EngineInfo, 'blockSize' | 'layers' | 'totalBlocks'>;

/** Bytes of one block's K, or V, in one layer of a simulated GPU: a u32 a token. */
export const simulatedBlockBytes = (blockSize: number): number => 4 * blockSize;

/**
 * Copies to and from a simulated GPU. Its state of a position stands for K and V of all layers: part p of it (2 x layer,
 * + 1 for V) travels as state + p. A block whose written parts are not all there, or do not agree, holds garbage.
 */
export class SimulatedCopies implements KvCopies {
  readonly maxBytes = 1 << 20;
  readonly maxBlocks = 65_535;
  /** Awaited before a read is done: a GPU takes its time. */
  pause: () => Promise<void> = async () => {};
  readonly #parts = new Map<number, Map<number, number[]>>();

  constructor(
    private readonly gpu: SimulatedGpu,
    private readonly shape: Shape,
  ) {}

  async read(section: KvSection, ids: () => readonly number[]): Promise<ArrayBuffer> {
    const words: number[] = [];
    const blocks = ids().map((id) => this.gpu.readBlock(id));
    for (const part of partsOf(section)) {
      for (const states of blocks) {
        if (states.some(Number.isNaN)) throw new Error('a block was read that nobody wrote');
        words.push(...states.map((state) => (state + part) >>> 0));
      }
    }
    await this.pause();
    return Uint32Array.from(words).buffer;
  }

  write(section: KvSection, ids: readonly number[], payload: Uint8Array): void {
    const { blockSize, layers } = this.shape;
    const words = new Uint32Array(payload.slice().buffer);
    let at = 0;
    for (const part of partsOf(section)) {
      for (const id of ids) {
        const parts = this.#parts.get(id) ?? new Map<number, number[]>();
        this.#parts.set(
          id,
          parts.set(
            part,
            [...words.subarray(at, at + blockSize)].map((word) => (word - part) >>> 0),
          ),
        );
        at += blockSize;
        const [first, ...others] = [...parts.values()];
        const agree =
          parts.size === 2 * layers && others.every((states) => states.every((state, i) => state === first![i]));
        this.gpu.writeBlock(id, agree ? first! : first!.map((state) => state ^ 0xdead));
      }
    }
  }

  destroy(): void {
    this.#parts.clear();
  }
}

function partsOf({ firstLayer, layers }: KvSection): number[] {
  return Array.from({ length: 2 * layers }, (_, i) => 2 * firstLayer + i);
}
