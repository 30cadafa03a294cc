import type { Engine, PrefillProgress } from '../../engine/api.ts';
import type { Clock } from '../../protocol/clock.ts';
import type { HubMessage, NodeMessage } from '../../protocol/messages.ts';
import {
  type FrameHeader,
  type KvSection,
  MAX_CREDIT,
  MAX_PAYLOAD_BYTES,
  sectionBytes,
} from '../../protocol/transfer.ts';
import { type Frame, makeFrame, type PayloadHash, readHeader } from '../../protocol/transfer-frame.ts';
import type { KvFacts } from './receiver.ts';
import type { Channel } from './transport.ts';

export type PrefillOrder = Extract<HubMessage, { type: 'prefill' }>;
export type PrefillClosed = Omit<Extract<NodeMessage, { type: 'prefill_closed' }>, 'type' | 'epoch' | 'transfer'>;

export interface SenderOptions {
  readonly order: PrefillOrder;
  readonly engine: Pick<Engine, 'prefill' | 'export' | 'cancel'>;
  readonly facts: KvFacts;
  readonly clock: Clock;
  readonly hash: PayloadHash;
  /** Chained hashes of the prompt's full blocks, as this node computes them. */
  readonly hashes: readonly bigint[];
  /** Its end of the channel; rejects with the reason why there is none. */
  readonly connect: (signal: AbortSignal) => Promise<Channel>;
  /** Last call, once: nothing of the transfer is held any more. */
  readonly over: (closed: PrefillClosed) => void;
}

/** Frames are about so large: large enough to cost little each, small enough to flow. */
const FRAME_BYTES = 1 << 20;
/** Without an acknowledgement for so long, what waits for one is given up. */
export const LEASE_MS = 10_000;

/**
 * Prefill side of one transfer: has the prompt computed, and sends the wanted blocks of each finished chunk while the
 * next computes, within the credit. The blocks are held until the other side has all, gives up, or goes silent.
 */
export class Sender {
  private readonly connecting = new AbortController();
  private channel: Channel | null = null;
  private progress: PrefillProgress = { blocks: 0, done: false, computedTokens: 0, cachedTokens: 0 };
  private sent = 0;
  private acked = 0;
  private credit: number;
  /** Wanted blocks that were sent whole, and how many layers of the group after them. */
  private blocks = 0;
  private layer = 0;
  private bytes = 0;
  private exporting = false;
  private ended = false;
  private open = true;
  private stopLease: (() => void) | null = null;

  constructor(private readonly options: SenderOptions) {
    this.credit = options.order.credit;
  }

  /** Has the prompt computed. What the engine refuses ends the transfer with its reason. */
  start(): void {
    const { engine, order, facts, hashes } = this.options;
    const { firstBlock, hashes: wanted } = order.wanted;
    if (wanted.some((hash, i) => hash !== hashes[firstBlock + i])) {
      this.stop('The blocks that are wanted are not those of the prompt.');
      return;
    }
    if (2 * facts.layerBlockBytes > MAX_PAYLOAD_BYTES) {
      this.stop(`One layer of a block has ${2 * facts.layerBlockBytes} bytes, and a frame takes ${MAX_PAYLOAD_BYTES}.`);
      return;
    }
    try {
      engine.prefill(order.generate);
    } catch (error) {
      this.stop(wordsOf(error));
      return;
    }
    void this.connect();
  }

  /** The engine has come further. */
  prefilled(progress: PrefillProgress): void {
    this.progress = progress;
    this.pump();
  }

  /** Gives up, and tells the decode node why. */
  stop(message: string): void {
    if (!this.open) return;
    const said = message.slice(0, 4096);
    this.say({ type: 'abort', transfer: this.options.order.transfer, message: said });
    this.end(said);
  }

  /** The hub says that the transfer is over. */
  cancel(message: string): void {
    // The decode node has all: its last acknowledgement and the hub's word crossed.
    if (this.ended && this.acked === this.sent) this.end(null);
    else this.stop(message);
  }

  private async connect(): Promise<void> {
    const { connect, clock, order } = this.options;
    const late = () => this.connecting.abort(new Error(`it did not open within ${order.timeoutMs} ms`));
    const stop = clock.after(order.timeoutMs, late);
    try {
      this.opened(await connect(this.connecting.signal));
    } catch (error) {
      this.stop(`No ${order.transport} channel to the decode node: ${wordsOf(error)}.`);
    } finally {
      stop();
    }
  }

  private opened(channel: Channel): void {
    if (!this.open) {
      channel.close();
      return;
    }
    this.channel = channel;
    channel.listen({
      frame: (frame) => this.frame(frame),
      drained: () => this.pump(),
      // When all was acknowledged there was nothing left to say.
      closed: (reason) =>
        this.end(
          this.ended && this.acked === this.sent
            ? null
            : `The ${this.options.order.transport} channel closed: ${reason}`,
        ),
    });
    this.pump();
  }

  private frame(frame: Frame): void {
    if (!this.open) return;
    const parsed = readHeader(frame);
    const wrong = parsed.ok ? this.take(parsed.header) : parsed.why;
    if (wrong !== null) this.stop(`A frame of the decode node was refused: ${wrong}.`);
  }

  /** What is wrong with a frame, or null. */
  private take(header: FrameHeader): string | null {
    if (header.transfer !== this.options.order.transfer) return `it is of transfer ${header.transfer}`;
    if (header.type === 'abort') {
      this.end(`The decode node gave up: ${header.message}`.slice(0, 4096));
      return null;
    }
    if (header.type !== 'ack') return `it is ${header.type}, which only this side sends`;
    const { frames, credit } = header;
    if (frames > this.sent) return `it acknowledges ${frames} frames, and ${this.sent} were sent`;
    if (frames < this.acked) return `it acknowledges ${frames} frames, after ${this.acked}`;
    this.acked = frames;
    this.credit = Math.min(credit, MAX_CREDIT);
    this.renewLease();
    if (this.ended && credit === 0 && frames === this.sent) this.end(null);
    else this.pump();
    return null;
  }

  /** Sends what can be sent now, one export after the other. */
  private pump(): void {
    if (!this.open || !this.channel || this.exporting || this.ended) return;
    if (this.blocks === this.options.order.wanted.hashes.length) {
      if (this.progress.done) this.sendEnd();
      return;
    }
    const section = this.next();
    if (!section) return;
    this.stopLease ??= this.lease();
    if (!this.channel.writable || this.sent - this.acked >= this.credit) return;
    this.exporting = true;
    void this.sendSection(this.channel, section);
  }

  /** The next section that the engine can export, or null. */
  private next(): KvSection | null {
    const { order, facts } = this.options;
    const first = order.wanted.firstBlock + this.blocks;
    const end = Math.min(this.progress.blocks, order.wanted.firstBlock + order.wanted.hashes.length);
    if (first >= end) return null;
    const blockBytes = facts.layers * 2 * facts.layerBlockBytes;
    if (blockBytes <= MAX_PAYLOAD_BYTES) {
      const blocks = Math.min(end - first, Math.max(1, Math.floor(FRAME_BYTES / blockBytes)));
      return { firstBlock: first, blocks, firstLayer: 0, layers: facts.layers };
    }
    const layers = Math.max(1, Math.floor(FRAME_BYTES / (2 * facts.layerBlockBytes)));
    return {
      firstBlock: first,
      blocks: 1,
      firstLayer: this.layer,
      layers: Math.min(layers, facts.layers - this.layer),
    };
  }

  private async sendSection(channel: Channel, section: KvSection): Promise<void> {
    const { engine, order, facts, hash } = this.options;
    try {
      const payload = new Uint8Array(await engine.export(order.transfer, section));
      if (!this.open) return;
      const bytes = sectionBytes(section, facts.layerBlockBytes);
      if (payload.length !== bytes) throw new Error(`The engine exported ${payload.length} bytes, not ${bytes}.`);
      const at = section.firstBlock - order.wanted.firstBlock;
      const header: FrameHeader = {
        type: 'blocks',
        transfer: order.transfer,
        frame: this.sent,
        fingerprint: facts.fingerprint,
        kvCacheDtype: facts.kvCacheDtype,
        section,
        hashes: order.wanted.hashes.slice(at, at + section.blocks),
        payloadHash: hash(payload),
      };
      this.sent++;
      this.bytes += bytes;
      this.layer += section.layers;
      if (this.layer === facts.layers) {
        this.layer = 0;
        this.blocks += section.blocks;
      }
      channel.send(makeFrame(header, payload));
      this.exporting = false;
      this.pump();
    } catch (error) {
      this.stop(wordsOf(error));
    }
  }

  private sendEnd(): void {
    const { transfer } = this.options.order;
    const { computedTokens, cachedTokens } = this.progress;
    this.ended = true;
    this.stopLease ??= this.lease();
    this.say({ type: 'end', transfer, frames: this.sent, computedTokens, cachedTokens });
  }

  private end(failed: string | null): void {
    if (!this.open) return;
    this.open = false;
    this.stopLease?.();
    this.connecting.abort(new Error('the transfer is over'));
    this.channel?.close();
    this.options.engine.cancel(this.options.order.transfer);
    const { computedTokens } = this.progress;
    this.options.over({ computedTokens, blocks: this.blocks, bytes: this.bytes, failed });
  }

  private say(header: FrameHeader): void {
    this.channel?.send(makeFrame(header));
  }

  /** Runs while something waits for the decode node. */
  private renewLease(): void {
    this.stopLease?.();
    this.stopLease = this.acked < this.sent || this.ended || this.next() ? this.lease() : null;
  }

  private lease(): () => void {
    return this.options.clock.after(LEASE_MS, () =>
      this.stop(`The decode node acknowledged nothing for ${LEASE_MS / 1000} s.`),
    );
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
