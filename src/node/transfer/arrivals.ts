import type { Clock } from '../../protocol/clock.ts';
import { type ChannelOf, orAborted } from './transport.ts';

/** Channels that came before anybody asked for them: at most so many, and so long. */
const MAX_WAITING = 64;
const WAIT_MS = 15_000;

/**
 * Where the channel that a decode node opened, and the transfer that the hub speaks of, find each other: either may come
 * first. `from` of a channel must be the transfer's peer.
 */
export class Arrivals<T extends { close(): void }> {
  private readonly came = new Map<string, { from: string; channel: T; stop: () => void }>();
  private readonly asked = new Map<string, { peer: string; give: (channel: T) => void }>();

  constructor(private readonly clock: Clock) {}

  /** A channel for a transfer, from the node `from`. */
  put(transfer: string, from: string, channel: T): void {
    const waiting = this.asked.get(transfer);
    if (waiting?.peer === from) {
      this.asked.delete(transfer);
      waiting.give(channel);
      return;
    }
    if (waiting || this.came.has(transfer) || this.came.size >= MAX_WAITING) {
      channel.close();
      return;
    }
    const stop = this.clock.after(WAIT_MS, () => {
      this.came.delete(transfer);
      channel.close();
    });
    this.came.set(transfer, { from, channel, stop });
  }

  /** The channel of a transfer, once it is there. Rejects when the signal aborts first. */
  take({ transfer, peer }: ChannelOf, signal: AbortSignal): Promise<T> {
    const here = this.came.get(transfer);
    if (here) {
      here.stop();
      this.came.delete(transfer);
      if (here.from === peer) return Promise.resolve(here.channel);
      here.channel.close();
    }
    const arrival = new Promise<T>((give) => this.asked.set(transfer, { peer, give }));
    signal.addEventListener('abort', () => this.asked.delete(transfer), { once: true });
    return orAborted(arrival, signal, (channel) => channel.close());
  }

  clear(): void {
    for (const { channel, stop } of this.came.values()) {
      stop();
      channel.close();
    }
    this.came.clear();
    this.asked.clear();
  }
}
