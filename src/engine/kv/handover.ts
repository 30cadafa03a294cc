import type { GenerateRequest } from '../../protocol/generate.ts';
import { type KvSection, sectionBytes } from '../../protocol/transfer.ts';
import { EngineError, type EngineInfo, type KvReservation } from '../api.ts';
import type { LoraAdapters } from '../lora/adapters.ts';
import { PROMPT_ONLY, Sequence } from '../sequence.ts';
import type { BlockManager } from './block-manager.ts';
import type { KvCopies } from './copies.ts';
import { Reservation } from './reservation.ts';

export interface HandoverParts {
  readonly info: EngineInfo;
  readonly blocks: BlockManager;
  readonly copies: KvCopies;
  /** The sequence whose blocks are held for a `prefill`. */
  readonly held: (request: string) => Sequence | undefined;
  readonly loras: LoraAdapters | null;
  /** Blocks were taken or let go of. */
  readonly changed: () => void;
}

/** KV of prompts on its way out of this engine and into it. */
export class Handover {
  private readonly reservations = new Set<Reservation>();
  /** Copies into the pool that wait for a step that is being submitted; null when none is. */
  private delayed: (() => void)[] | null = null;

  constructor(private readonly parts: HandoverParts) {}

  async export(request: string, section: KvSection): Promise<ArrayBuffer> {
    const { info, copies } = this.parts;
    const ids = () => this.exportable(request, section);
    ids();
    const bytes = sectionBytes(section, info.layerBlockBytes);
    if (bytes > copies.maxBytes || section.blocks > copies.maxBlocks)
      throw invalid(
        request,
        `${section.blocks} blocks in ${section.layers} layers are ${bytes} bytes of KV; one section has at most ${copies.maxBlocks} blocks and ${copies.maxBytes} bytes`,
      );
    return copies.read(section, ids);
  }

  reserve(request: GenerateRequest): KvReservation | 'cached' | 'no_room' {
    const { info, blocks, copies, changed, loras } = this.parts;
    const { loraName } = request;
    if (request.prompt.length >= info.maxModelLen)
      throw invalid(
        request.request,
        `its prompt has ${request.prompt.length} tokens, and the context has ${info.maxModelLen}`,
      );
    if (request.sampling.promptLogprobs !== null)
      throw invalid(
        request.request,
        'logprobs of its prompt are wanted, so its prompt must be computed where it is answered',
      );
    const sequence = new Sequence({ ...request, sampling: PROMPT_ONLY }, 0, [], info.maxModelLen);
    const wanted = Math.floor((request.prompt.length - 1) / info.blockSize);
    const hits = blocks.match(sequence);
    if (hits.length === wanted) return 'cached';
    if (!blocks.admit(sequence, hits, wanted * info.blockSize)) return 'no_room';
    const { layers, layerBlockBytes } = info;
    // Until these blocks are cached or let go of, no other adapter gets its name.
    const lora = loraName === undefined ? null : (loras?.take(loraName) ?? null);
    const reservation = new Reservation({
      blocks,
      sequence,
      layers,
      layerBlockBytes,
      maxBytes: copies.maxBytes,
      write: (section, ids, payload) => this.write(section, ids, payload),
      ended: (ended) => {
        this.reservations.delete(ended);
        if (lora) loras?.release(lora);
        changed();
      },
    });
    this.reservations.add(reservation);
    changed();
    return reservation;
  }

  /**
   * A step that was planned before a block changed hands may still write to it, so what is written here must come after
   * that step in queue order: from now until `submitted`, copies into the pool wait.
   */
  submitting(): void {
    this.delayed = [];
  }

  submitted(): void {
    const delayed = this.delayed ?? [];
    this.delayed = null;
    for (const write of delayed) write();
  }

  /** Ends all reservations. */
  close(): void {
    for (const reservation of this.reservations) reservation.abort();
    this.parts.copies.destroy();
  }

  private write(section: KvSection, ids: readonly number[], payload: Uint8Array): void {
    const { copies } = this.parts;
    if (this.delayed) {
      const copy = payload.slice();
      this.delayed.push(() => copies.write(section, ids, copy));
    } else {
      copies.write(section, ids, payload);
    }
  }

  private exportable(request: string, section: KvSection): readonly number[] {
    const { info } = this.parts;
    const { firstBlock, blocks, firstLayer, layers } = section;
    const sequence = this.parts.held(request);
    if (!sequence) throw invalid(request, 'no prompt of this id is held; it was cancelled, or never came');
    const full = Math.floor(sequence.computed / info.blockSize);
    if (firstBlock < 0 || blocks < 1 || firstBlock + blocks > full)
      throw invalid(request, `blocks ${firstBlock} to ${firstBlock + blocks - 1} are wanted, and ${full} are computed`);
    if (firstLayer < 0 || layers < 1 || firstLayer + layers > info.layers)
      throw invalid(
        request,
        `layers ${firstLayer} to ${firstLayer + layers - 1} are wanted, and the model has ${info.layers}`,
      );
    return sequence.blocks.slice(firstBlock, firstBlock + blocks);
  }
}

function invalid(request: string, why: string): EngineError {
  return new EngineError('invalid_request', `request ${request}: ${why}.`);
}
