import type { Clock } from '../../protocol/clock.ts';
import type { PeerCommand, PeerEvent } from '../page/peers.ts';
import { Arrivals } from './arrivals.ts';
import { DataChannel } from './data-channel.ts';
import { type DataPipe, ForwardedPipe } from './data-pipe.ts';
import { type Channel, type ChannelOf, orAborted, type Transport } from './transport.ts';

/**
 * Between nodes that reach each other by network: a WebRTC data channel for each transfer. The page makes the connections,
 * which browsers give to pages alone, and moves each channel in here; `signal` messages of the link bring the two together.
 */
export class WebRtcTransport implements Transport {
  readonly name = 'webrtc';
  private readonly incoming: Arrivals<DataPipe>;
  private readonly opening = new Map<string, { give: (pipe: DataPipe) => void; fail: (error: Error) => void }>();

  constructor(
    private readonly options: {
      /** This worker's port to the page (`Peers`). */
      readonly page: MessagePort;
      readonly clock: Clock;
      /** Sends a signal to the other node of a transfer. */
      readonly signal: (transfer: string, data: string) => void;
      /** A frame came for a channel that is closed. */
      readonly late: () => void;
    },
  ) {
    this.incoming = new Arrivals(options.clock);
    options.page.onmessage = (event: MessageEvent<PeerEvent>) => this.told(event.data);
  }

  async open({ transfer }: ChannelOf, signal: AbortSignal): Promise<Channel> {
    const opened = new Promise<DataPipe>((give, fail) => this.opening.set(transfer, { give, fail }));
    this.tell({ type: 'offer', transfer });
    try {
      const pipe = await orAborted(opened, signal, (late) => late.close());
      return await this.ready(transfer, pipe, signal);
    } catch (error) {
      this.tell({ type: 'close', transfer });
      throw error;
    } finally {
      this.opening.delete(transfer);
    }
  }

  async accept({ transfer }: ChannelOf, signal: AbortSignal): Promise<Channel> {
    return this.ready(transfer, await this.incoming.take({ transfer, peer: transfer }, signal), signal);
  }

  /** The other node of a transfer says so; the hub lets nobody else speak of it. */
  signalled(transfer: string, data: string): void {
    this.tell({ type: 'signal', transfer, data });
  }

  close(): void {
    this.incoming.clear();
    for (const { fail } of this.opening.values()) fail(new Error('This node leaves.'));
    this.tell({ type: 'close_all' });
    this.options.page.close();
  }

  private told(event: PeerEvent): void {
    switch (event.type) {
      case 'signal':
        this.options.signal(event.transfer, event.data);
        break;
      case 'failed':
        this.opening.get(event.transfer)?.fail(new Error(event.message));
        break;
      case 'channel': {
        const pipe = event.channel instanceof MessagePort ? new ForwardedPipe(event.channel) : event.channel;
        pipe.binaryType = 'arraybuffer';
        pipe.onclose = () => this.tell({ type: 'close', transfer: event.transfer });
        const waiting = this.opening.get(event.transfer);
        if (event.offered && waiting) waiting.give(pipe);
        else if (event.offered) pipe.close();
        else this.incoming.put(event.transfer, event.transfer, pipe);
        break;
      }
    }
  }

  private async ready(transfer: string, pipe: DataPipe, signal: AbortSignal): Promise<Channel> {
    if (pipe.readyState === 'connecting') {
      const opened = new Promise<void>((resolve, reject) => {
        pipe.onopen = () => resolve();
        pipe.onclose = () => reject(new Error('The data channel closed before it opened.'));
      });
      await orAborted(opened, signal, () => pipe.close());
    }
    const { clock, late } = this.options;
    return new DataChannel({ pipe, clock, late, gone: () => this.tell({ type: 'close', transfer }) });
  }

  private tell(command: PeerCommand): void {
    this.options.page.postMessage(command);
  }
}
