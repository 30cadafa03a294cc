import type { KvSection } from '../../protocol/transfer.ts';

/** Moves KV between the pool and the host; `GpuKvCopies` is the real one. Block ids are in the order of the section. */
export interface KvCopies {
  /** Bytes of the largest section that is taken. */
  readonly maxBytes: number;
  /** Blocks of the largest section that is taken. */
  readonly maxBlocks: number;
  /**
   * Reads blocks as they are after everything submitted before. `ids` is asked when the copy is submitted, which may be
   * later than the call; what it throws is what `read` rejects with.
   */
  read(section: KvSection, ids: () => readonly number[]): Promise<ArrayBuffer>;
  /** Writes blocks: after everything submitted before, before everything submitted later. Takes the payload's bytes at once. */
  write(section: KvSection, ids: readonly number[], payload: Uint8Array): void;
  destroy(): void;
}
