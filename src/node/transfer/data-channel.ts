import type { Clock } from '../../protocol/clock.ts';
import type { Frame } from '../../protocol/transfer-frame.ts';
import type { DataPipe } from './data-pipe.ts';
import { cutFrame, FrameJoiner } from './pieces.ts';
import type { Channel, ChannelListener } from './transport.ts';

/** Unsent bytes from which on nothing is written, and below which it goes on. Browsers close a channel at 16 MiB. */
const HIGH_WATER = 4 << 20;
const LOW_WATER = 1 << 20;
/** What was sent before `close` has so long to arrive. */
const LINGER_MS = 5000;

/** A channel over one WebRTC data channel, which is reliable and ordered. */
export class DataChannel implements Channel {
  private readonly joiner = new FrameJoiner();
  private listener: ChannelListener | null = null;
  private full = false;

  private readonly pipe: DataPipe;
  private stopLinger: (() => void) | null = null;

  constructor(
    private readonly options: {
      /** Is open. */
      readonly pipe: DataPipe;
      readonly clock: Clock;
      /** A frame came after `close`. */
      readonly late: () => void;
      /** The pipe is closed on both sides, or had its time for that. */
      readonly gone: () => void;
    },
  ) {
    this.pipe = options.pipe;
    this.pipe.bufferedAmountLowThreshold = LOW_WATER;
  }

  get writable(): boolean {
    if (this.pipe.bufferedAmount >= HIGH_WATER) this.full = true;
    return !this.full && this.pipe.readyState === 'open';
  }

  send(frame: Frame): void {
    if (this.pipe.readyState !== 'open') return;
    for (const piece of cutFrame(frame)) this.pipe.send(piece);
  }

  listen(listener: ChannelListener): void {
    this.listener = listener;
    this.pipe.onmessage = (event: MessageEvent<unknown>) => this.message(event.data);
    this.pipe.onbufferedamountlow = () => {
      this.full = false;
      this.listener?.drained();
    };
    this.pipe.onclose = () => {
      this.lose('the other side closed it, or the network did');
      this.stopLinger?.();
      this.options.gone();
    };
    if (this.pipe.readyState !== 'open') queueMicrotask(() => this.lose('it closed at once'));
  }

  close(): void {
    this.listener = null;
    // What was sent goes out first (RFC 8831, 6.7); the connection below it must stand until then.
    this.pipe.close();
    this.stopLinger ??= this.options.clock.after(LINGER_MS, this.options.gone);
  }

  private message(data: unknown): void {
    const frame = data instanceof ArrayBuffer ? this.joiner.push(new Uint8Array(data)) : 'a message of text';
    if (frame === null) return;
    if (!this.listener) this.options.late();
    else if (typeof frame === 'string') this.lose(`something came that is no frame: ${frame}`);
    else this.listener.frame(frame);
  }

  private lose(reason: string): void {
    const { listener } = this;
    if (!listener) return;
    this.close();
    listener.closed(reason);
  }
}
