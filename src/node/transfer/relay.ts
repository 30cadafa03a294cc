import type { Clock } from '../../protocol/clock.ts';
import { type Frame, joinFrame, splitFrame } from '../../protocol/transfer-frame.ts';
import { type BulkConnect, BulkLink } from './bulk-link.ts';
import { type Channel, type ChannelListener, type ChannelOf, orAborted, type Transport } from './transport.ts';

/** Between any two nodes of a hub: over the bulk socket of each. */
export class RelayTransport implements Transport {
  readonly name = 'relay';
  private readonly link: BulkLink;
  private readonly channels = new Map<string, RelayChannel>();
  private waiting: (() => void)[] = [];

  constructor(
    private readonly options: {
      readonly connect: BulkConnect;
      readonly clock: Clock;
      readonly random: () => number;
      /** A frame came for no open channel. */
      readonly late: () => void;
    },
  ) {
    this.link = new BulkLink({
      ...options,
      listener: {
        opened: () => {
          const waiting = this.waiting;
          this.waiting = [];
          for (const go of waiting) go();
        },
        message: (bytes) => this.message(bytes),
        drained: () => {
          for (const channel of [...this.channels.values()]) channel.listener?.drained();
        },
        lost: (reason) => {
          for (const channel of [...this.channels.values()]) channel.lose(reason);
        },
      },
    });
  }

  /** Opens the socket as this node. */
  attach(node: string, token: string): void {
    this.link.open(node, token);
  }

  open(of: ChannelOf, signal: AbortSignal): Promise<Channel> {
    return this.channel(of, signal);
  }

  accept(of: ChannelOf, signal: AbortSignal): Promise<Channel> {
    return this.channel(of, signal);
  }

  close(): void {
    this.link.close();
  }

  private async channel({ transfer }: ChannelOf, signal: AbortSignal): Promise<Channel> {
    if (!this.link.isOpen) {
      const opened = new Promise<void>((resolve) => this.waiting.push(resolve));
      await orAborted(opened, signal, () => {});
    }
    if (this.channels.has(transfer)) throw new Error(`Transfer ${transfer} has a channel already.`);
    const channel = new RelayChannel(this.link, transfer, () => {
      if (this.channels.get(transfer) === channel) this.channels.delete(transfer);
    });
    this.channels.set(transfer, channel);
    return channel;
  }

  private message(bytes: Uint8Array<ArrayBuffer>): void {
    const named = readTransfer(bytes);
    const channel = named && this.channels.get(named.transfer);
    if (channel) channel.receive(named.frame);
    else this.options.late();
  }
}

class RelayChannel implements Channel {
  listener: ChannelListener | null = null;
  private lostBy: string | null = null;
  private readonly prefix: Uint8Array;

  constructor(
    private readonly link: BulkLink,
    transfer: string,
    private readonly gone: () => void,
  ) {
    this.prefix = transferPrefix(transfer);
  }

  get writable(): boolean {
    return this.link.writable;
  }

  send(frame: Frame): void {
    this.link.send(joinFrame(frame, this.prefix));
  }

  /** Nothing can have come before: the other side speaks when this one is there. */
  listen(listener: ChannelListener): void {
    this.listener = listener;
    const { lostBy } = this;
    if (lostBy !== null) queueMicrotask(() => this.lose(lostBy));
  }

  close(): void {
    this.listener = null;
    this.gone();
  }

  receive(bytes: Uint8Array<ArrayBuffer>): void {
    const frame = splitFrame(bytes);
    if (typeof frame === 'string') this.lose(`something came that is no frame: ${frame}`);
    else this.listener?.frame(frame);
  }

  lose(reason: string): void {
    const { listener } = this;
    this.lostBy = reason;
    this.close();
    listener?.closed(reason);
  }
}

/** What stands before each frame on a bulk socket: u16 little-endian length of the transfer's id, and the id in UTF-8. */
function transferPrefix(transfer: string): Uint8Array {
  const id = new TextEncoder().encode(transfer);
  const prefix = new Uint8Array(2 + id.length);
  new DataView(prefix.buffer).setUint16(0, id.length, true);
  prefix.set(id, 2);
  return prefix;
}

function readTransfer(bytes: Uint8Array<ArrayBuffer>): { transfer: string; frame: Uint8Array<ArrayBuffer> } | null {
  if (bytes.length < 2) return null;
  const end = 2 + new DataView(bytes.buffer, bytes.byteOffset).getUint16(0, true);
  if (end > bytes.length) return null;
  return { transfer: new TextDecoder().decode(bytes.subarray(2, end)), frame: bytes.subarray(end) };
}
