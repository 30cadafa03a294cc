import type { KvReservation } from '../../engine/api.ts';
import type { Clock } from '../../protocol/clock.ts';
import { type FrameHeader, sectionBytes, type TransferOutcome, type TransportName } from '../../protocol/transfer.ts';
import { type Frame, makeFrame, type PayloadHash, readHeader } from '../../protocol/transfer-frame.ts';
import type { Channel } from './transport.ts';

/** What the KV of two nodes must have in common before bytes of one mean something to the other. */
export interface KvFacts {
  readonly fingerprint: string;
  readonly kvCacheDtype: string;
  readonly layers: number;
  /** Bytes of one block's K (or V) in one layer. */
  readonly layerBlockBytes: number;
}

export type LocalReason = Extract<TransferOutcome, { kind: 'local' }>['why'];

export interface ReceiverOptions {
  readonly transfer: string;
  readonly transport: TransportName;
  readonly channel: Channel;
  readonly facts: KvFacts;
  readonly reservation: KvReservation;
  /** Frames that the sender may have on their way. */
  readonly credit: number;
  /** Longest time between two frames, milliseconds. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly hash: PayloadHash;
  /** A frame came when the transfer was over; it was not written. */
  readonly late: () => void;
  /** Last call, once. The reservation is committed (`done`) or given up (`local`) by then. */
  readonly over: (outcome: TransferOutcome) => void;
}

/**
 * Decode side of one transfer. Blocks come in the order of the prompt; a group of blocks may be cut by layers, from the
 * first to the last. All of a frame is checked before a byte of it is written, and anything that differs ends the transfer.
 */
export class Receiver {
  private frames = 0;
  private bytes = 0;
  /** Wanted blocks that are whole, and how far the group after them has come. */
  private blocks = 0;
  private layer = 0;
  private group = 0;
  private open = true;
  private stopTimer: () => void = () => {};
  private readonly startedAt: number;

  constructor(private readonly options: ReceiverOptions) {
    this.startedAt = options.clock.now();
    this.arm();
    options.channel.listen({
      frame: (frame) => this.frame(frame),
      drained: () => {},
      closed: (reason) => this.end('closed', `The ${options.transport} channel closed: ${reason}`),
    });
  }

  /** Gives up, and tells the sender; the outcome is `local`. */
  stop(why: LocalReason, message: string): void {
    if (this.open) this.say({ type: 'abort', transfer: this.options.transfer, message });
    this.end(why, message);
  }

  private frame(frame: Frame): void {
    if (!this.open) {
      this.options.late();
      return;
    }
    const parsed = readHeader(frame);
    const wrong = parsed.ok ? this.take(parsed.header, frame.payload) : parsed.why;
    if (wrong !== null) this.stop('refused', `A frame of the prefill node was refused: ${wrong}.`.slice(0, 4096));
  }

  /** What is wrong with a frame, or null. */
  private take(header: FrameHeader, payload: Uint8Array): string | null {
    if (header.transfer !== this.options.transfer) return `it is of transfer ${header.transfer}`;
    switch (header.type) {
      case 'blocks':
        return this.checkBlocks(header, payload) ?? this.write(header, payload);
      case 'end':
        return this.finish(header);
      case 'abort':
        this.end('prefill_failed', `The prefill node gave up: ${header.message}`.slice(0, 4096));
        return null;
      case 'ack':
        return 'an acknowledgement, which only this side gives';
    }
  }

  private checkBlocks(header: Extract<FrameHeader, { type: 'blocks' }>, payload: Uint8Array): string | null {
    const { facts, reservation, hash } = this.options;
    const { section } = header;
    const total = reservation.hashes.length;
    if (header.frame !== this.frames) return `it is number ${header.frame}, and ${this.frames} was next`;
    if (header.fingerprint !== facts.fingerprint) return 'its model has another fingerprint';
    if (header.kvCacheDtype !== facts.kvCacheDtype)
      return `its KV dtype is ${header.kvCacheDtype}, and here it is ${facts.kvCacheDtype}`;
    if (section.firstBlock !== reservation.firstBlock + this.blocks)
      return `it begins at block ${section.firstBlock}, and ${reservation.firstBlock + this.blocks} was next`;
    if (section.blocks < 1 || section.blocks > total - this.blocks)
      return `it has ${section.blocks} blocks, and ${total - this.blocks} are wanted`;
    if (section.firstLayer !== this.layer)
      return `it begins at layer ${section.firstLayer}, and ${this.layer} was next`;
    if (section.layers < 1 || section.layers > facts.layers - this.layer)
      return `it has ${section.layers} layers, and ${facts.layers - this.layer} were to come`;
    if (this.layer > 0 && section.blocks !== this.group)
      return `it has ${section.blocks} blocks, and their first layers came with ${this.group}`;
    const bytes = sectionBytes(section, facts.layerBlockBytes);
    if (payload.length !== bytes) return `its payload has ${payload.length} bytes, not ${bytes}`;
    const hashes = reservation.hashes.slice(this.blocks, this.blocks + section.blocks);
    if (header.hashes.length !== hashes.length || hashes.some((each, i) => each !== header.hashes[i]))
      return 'its block hashes are not those that were asked for';
    if (hash(payload) !== header.payloadHash) return 'its payload does not have the hash that the header tells';
    return null;
  }

  private write({ section }: Extract<FrameHeader, { type: 'blocks' }>, payload: Uint8Array): string | null {
    const { reservation, facts, transfer, credit } = this.options;
    try {
      reservation.write(section, payload);
    } catch (error) {
      return `it could not be written (${wordsOf(error)})`;
    }
    this.frames++;
    this.bytes += payload.length;
    this.group = section.blocks;
    this.layer += section.layers;
    if (this.layer === facts.layers) {
      this.layer = 0;
      this.blocks += section.blocks;
    }
    this.arm();
    this.say({ type: 'ack', transfer, frames: this.frames, credit });
    return null;
  }

  private finish({ frames, computedTokens, cachedTokens }: Extract<FrameHeader, { type: 'end' }>): string | null {
    const { reservation, transfer, transport, clock } = this.options;
    const wanted = reservation.hashes.length;
    if (frames !== this.frames) return `${frames} frames were sent and ${this.frames} came`;
    if (this.blocks !== wanted) return `the prefill node ended after ${this.blocks} of ${wanted} blocks`;
    try {
      reservation.commit();
    } catch (error) {
      return `its blocks could not be taken over (${wordsOf(error)})`;
    }
    this.say({ type: 'ack', transfer, frames, credit: 0 });
    this.shut();
    const milliseconds = clock.now() - this.startedAt;
    const { bytes, blocks } = this;
    this.options.over({ kind: 'done', transport, blocks, bytes, computedTokens, cachedTokens, milliseconds });
    return null;
  }

  private end(why: LocalReason, message: string): void {
    if (!this.open) return;
    this.shut();
    this.options.reservation.abort();
    this.options.over({ kind: 'local', why, transport: this.options.transport, message });
  }

  private shut(): void {
    this.open = false;
    this.stopTimer();
    this.options.channel.close();
  }

  private say(header: FrameHeader): void {
    this.options.channel.send(makeFrame(header));
  }

  private arm(): void {
    const { clock, timeoutMs } = this.options;
    this.stopTimer();
    this.stopTimer = clock.after(timeoutMs, () =>
      this.stop('stalled', `No blocks came from the prefill node for ${timeoutMs} ms.`),
    );
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
