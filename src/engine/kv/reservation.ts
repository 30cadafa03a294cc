import { type KvSection, sectionBytes } from '../../protocol/transfer.ts';
import { EngineError, type KvReservation } from '../api.ts';
import type { Sequence } from '../sequence.ts';
import type { BlockManager } from './block-manager.ts';

export interface ReservationParts {
  readonly blocks: BlockManager;
  /** Holds the cached blocks and the fresh ones; in no scheduler. */
  readonly sequence: Sequence;
  readonly layers: number;
  readonly layerBlockBytes: number;
  readonly maxBytes: number;
  readonly write: (section: KvSection, ids: readonly number[], payload: Uint8Array) => void;
  /** Called once, after the blocks were let go of. */
  readonly ended: (reservation: Reservation) => void;
}

/** Blocks of the pool that wait for their KV. What they hold is no part of the prefix cache before `commit`. */
export class Reservation implements KvReservation {
  readonly firstBlock: number;
  readonly hashes: readonly bigint[];
  /** 1 for each [layer][block] that was written. */
  private readonly written: Uint8Array;
  private left: number;
  private open = true;

  constructor(private readonly parts: ReservationParts) {
    const { sequence, layers } = parts;
    this.firstBlock = sequence.registered;
    this.hashes = sequence.hashes.slice(this.firstBlock, sequence.blocks.length).map(({ blockHash }) => blockHash);
    this.left = layers * this.hashes.length;
    this.written = new Uint8Array(this.left);
  }

  write(section: KvSection, payload: Uint8Array): void {
    this.requireOpen();
    const { sequence, layers, layerBlockBytes, maxBytes, write } = this.parts;
    const { firstBlock, blocks, firstLayer } = section;
    const first = firstBlock - this.firstBlock;
    if (first < 0 || blocks < 1 || first + blocks > this.hashes.length)
      throw invalid(
        `blocks ${firstBlock} to ${firstBlock + blocks - 1} are not among the ${this.hashes.length} taken from ${this.firstBlock} on`,
      );
    if (firstLayer < 0 || section.layers < 1 || firstLayer + section.layers > layers)
      throw invalid(`layers ${firstLayer} to ${firstLayer + section.layers - 1} are not among the model's ${layers}`);
    const bytes = sectionBytes(section, layerBlockBytes);
    if (payload.byteLength !== bytes) throw invalid(`the payload has ${payload.byteLength} bytes, not ${bytes}`);
    if (bytes > maxBytes) throw invalid(`the payload has ${bytes} bytes, and ${maxBytes} are the most`);
    write(section, sequence.blocks.slice(firstBlock, firstBlock + blocks), payload);
    for (let layer = firstLayer; layer < firstLayer + section.layers; layer++) {
      for (let at = layer * this.hashes.length + first; at < layer * this.hashes.length + first + blocks; at++) {
        this.left -= 1 - this.written[at]!;
        this.written[at] = 1;
      }
    }
  }

  commit(): void {
    this.requireOpen();
    if (this.left > 0)
      throw invalid(`${this.left} of ${this.written.length} parts (a block in one layer) were not written`);
    const { blocks, sequence } = this.parts;
    sequence.computed = sequence.blocks.length * blocks.blockSize;
    blocks.register(sequence);
    this.end();
  }

  abort(): void {
    if (this.open) this.end();
  }

  private end(): void {
    this.open = false;
    this.parts.blocks.free(this.parts.sequence);
    this.parts.ended(this);
  }

  private requireOpen(): void {
    if (!this.open) throw invalid('it has ended; late KV is not written');
  }
}

function invalid(why: string): EngineError {
  return new EngineError('invalid_request', `KV reservation: ${why}.`);
}
