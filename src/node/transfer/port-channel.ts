import type { Frame } from '../../protocol/transfer-frame.ts';
import type { Channel, ChannelListener } from './transport.ts';

/**
 * A channel over a MessagePort. Buffers are moved, not copied. A port tells nothing of what waits in it: the credit of the
 * transfer bounds that.
 */
export class PortChannel implements Channel {
  readonly writable = true;
  private listener: ChannelListener | null = null;

  constructor(
    private readonly port: MessagePort,
    private readonly late: () => void,
  ) {}

  send(frame: Frame): void {
    const moved = frame.payload.length > 0 ? [frame.head.buffer, frame.payload.buffer] : [frame.head.buffer];
    this.port.postMessage(frame, moved);
  }

  listen(listener: ChannelListener): void {
    this.listener = listener;
    this.port.onmessage = (event: MessageEvent<unknown>) => {
      if (!this.listener) this.late();
      else if (isFrame(event.data)) this.listener.frame(event.data);
      else this.lose('something came that is no frame');
    };
    this.port.onmessageerror = () => this.lose('a message could not be read');
    // Not every browser tells it.
    this.port.addEventListener('close', () => this.lose('the other page closed it'));
    this.port.start();
  }

  close(): void {
    this.listener = null;
    this.port.close();
  }

  private lose(reason: string): void {
    const { listener } = this;
    if (!listener) return;
    this.close();
    listener.closed(reason);
  }
}

function isFrame(data: unknown): data is Frame {
  if (typeof data !== 'object' || data === null || !('head' in data) || !('payload' in data)) return false;
  return data.head instanceof Uint8Array && data.payload instanceof Uint8Array;
}
