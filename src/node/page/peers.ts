import * as z from 'zod';
import type { Clock } from '../../protocol/clock.ts';
import { forwardChannel } from './forward-channel.ts';

/** What the worker asks of the page. */
export type PeerCommand =
  | { readonly type: 'offer'; readonly transfer: string }
  | { readonly type: 'signal'; readonly transfer: string; readonly data: string }
  | { readonly type: 'close'; readonly transfer: string }
  | { readonly type: 'close_all' };

/** What the page tells its worker. */
export type PeerEvent =
  | { readonly type: 'signal'; readonly transfer: string; readonly data: string }
  /** `offered`: by this side. A port, where the browser cannot move the channel itself: see `ForwardedPipe`. */
  | {
      readonly type: 'channel';
      readonly transfer: string;
      readonly offered: boolean;
      readonly channel: RTCDataChannel | MessagePort;
    }
  | { readonly type: 'failed'; readonly transfer: string; readonly message: string };

const Signal = z.union([
  z.object({ type: z.enum(['offer', 'answer']), sdp: z.string() }),
  z.object({
    candidate: z.string(),
    sdpMid: z.string().nullable().default(null),
    sdpMLineIndex: z.number().nullable().default(null),
    usernameFragment: z.string().nullable().default(null),
  }),
]);
type Signal = z.infer<typeof Signal>;

/** Connections at one time; each costs sockets of this machine. */
const MAX_PEERS = 32;
/** From the first signal to a connection that stands. */
const CONNECT_MS = 15_000;
const LABEL = 'kv';

interface Peer {
  readonly connection: RTCPeerConnection;
  stop: () => void;
}

/**
 * The WebRTC connections of a page, one for each transfer. A channel is moved to the worker in the task that makes or gets
 * it: later no browser moves it any more (WebRTC, "RTCDataChannel transfer steps"). No server is asked for an address: it serves
 * nodes that reach each other directly.
 */
export class Peers {
  private readonly peers = new Map<string, Peer>();

  constructor(
    private readonly worker: MessagePort,
    private readonly clock: Clock,
    private readonly createConnection: () => RTCPeerConnection = () => new RTCPeerConnection(),
  ) {
    worker.onmessage = (event: MessageEvent<PeerCommand>) => this.told(event.data);
  }

  private told(command: PeerCommand): void {
    switch (command.type) {
      case 'offer':
        this.offer(command.transfer);
        break;
      case 'signal':
        void this.signal(command.transfer, command.data);
        break;
      case 'close':
        this.close(command.transfer);
        break;
      case 'close_all':
        for (const transfer of [...this.peers.keys()]) this.close(transfer);
        break;
    }
  }

  private offer(transfer: string): void {
    const peer = this.create(transfer);
    if (!peer) return;
    this.handOver(transfer, peer.connection.createDataChannel(LABEL), true);
    void this.describe(transfer, peer);
  }

  private async signal(transfer: string, data: string): Promise<void> {
    const signal = readSignal(data);
    if (!signal) {
      this.fail(transfer, 'The other node sent a signal that cannot be read.');
      return;
    }
    const isOffer = 'sdp' in signal && signal.type === 'offer';
    const peer = isOffer && !this.peers.has(transfer) ? this.create(transfer) : this.peers.get(transfer);
    if (!peer) return;
    try {
      if ('sdp' in signal) await peer.connection.setRemoteDescription(signal);
      else await peer.connection.addIceCandidate(signal);
      if (isOffer) await this.describe(transfer, peer);
    } catch (error) {
      this.fail(transfer, `The connection failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Makes this side's description and tells it. */
  private async describe(transfer: string, { connection }: Peer): Promise<void> {
    await connection.setLocalDescription();
    const description = connection.localDescription;
    if (description)
      this.tellSignal(transfer, { type: description.type === 'offer' ? 'offer' : 'answer', sdp: description.sdp });
  }

  private create(transfer: string): Peer | null {
    if (this.peers.size >= MAX_PEERS || this.peers.has(transfer)) {
      this.tell({ type: 'failed', transfer, message: `This page has ${this.peers.size} connections open already.` });
      return null;
    }
    const connection = this.createConnection();
    const stop = this.clock.after(CONNECT_MS, () => this.fail(transfer, 'The nodes did not reach each other in time.'));
    const peer: Peer = { connection, stop };
    this.peers.set(transfer, peer);
    connection.onicecandidate = ({ candidate }) => {
      if (candidate) this.tellSignal(transfer, Signal.parse(candidate.toJSON()));
    };
    connection.onconnectionstatechange = () => {
      const { connectionState } = connection;
      if (connectionState === 'connected') peer.stop();
      else if (connectionState === 'failed' || connectionState === 'closed')
        this.fail(transfer, 'The nodes do not reach each other by network.');
    };
    connection.ondatachannel = ({ channel }) => this.handOver(transfer, channel, false);
    return peer;
  }

  private handOver(transfer: string, channel: RTCDataChannel, offered: boolean): void {
    try {
      // TypeScript's DOM types do not know yet that a data channel can be moved.
      const moved = channel as unknown as Transferable;
      this.tell({ type: 'channel', transfer, offered, channel }, moved);
    } catch {
      const { port1, port2 } = new MessageChannel();
      forwardChannel(channel, port1);
      this.tell({ type: 'channel', transfer, offered, channel: port2 }, port2);
    }
  }

  private fail(transfer: string, message: string): void {
    if (!this.peers.has(transfer)) return;
    this.close(transfer);
    this.tell({ type: 'failed', transfer, message });
  }

  private close(transfer: string): void {
    const peer = this.peers.get(transfer);
    if (!peer) return;
    this.peers.delete(transfer);
    peer.stop();
    peer.connection.close();
  }

  private tellSignal(transfer: string, signal: Signal): void {
    this.tell({ type: 'signal', transfer, data: JSON.stringify(signal) });
  }

  private tell(event: PeerEvent, moved?: Transferable): void {
    this.worker.postMessage(event, moved ? [moved] : []);
  }
}

function readSignal(data: string): Signal | null {
  try {
    return Signal.parse(JSON.parse(data));
  } catch {
    return null;
  }
}
