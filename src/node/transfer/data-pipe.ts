/** What of a WebRTC data channel is used; the channel itself where it was moved into this thread. */
export interface DataPipe {
  readonly readyState: RTCDataChannelState;
  /** Bytes given to `send` that are still here. */
  readonly bufferedAmount: number;
  bufferedAmountLowThreshold: number;
  binaryType: BinaryType;
  onopen: ((event: Event) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  onclose: ((event: Event) => unknown) | null;
  onbufferedamountlow: ((event: Event) => unknown) | null;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** What a page tells of a data channel that stays with it. */
export type ForwardEvent =
  | { readonly type: 'open' }
  | { readonly type: 'closed' }
  | { readonly type: 'message'; readonly data: ArrayBuffer }
  /** Bytes that left the channel since the last such message. */
  | { readonly type: 'sent'; readonly bytes: number };

/** What the worker asks of it. */
export type ForwardCommand = { readonly type: 'send'; readonly data: ArrayBuffer } | { readonly type: 'close' };

/** A data channel that the browser cannot move: the page holds it and forwards (`forwardChannel`). */
export class ForwardedPipe implements DataPipe {
  readyState: RTCDataChannelState = 'connecting';
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  binaryType: BinaryType = 'arraybuffer';
  onopen: DataPipe['onopen'] = null;
  onmessage: DataPipe['onmessage'] = null;
  onclose: DataPipe['onclose'] = null;
  onbufferedamountlow: DataPipe['onbufferedamountlow'] = null;

  constructor(private readonly port: MessagePort) {
    port.onmessage = (event: MessageEvent<ForwardEvent>) => this.told(event.data);
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.readyState !== 'open') throw new Error('The data channel is not open.');
    this.bufferedAmount += bytes.length;
    const data = bytes.slice().buffer;
    this.tell({ type: 'send', data }, data);
  }

  close(): void {
    this.readyState = 'closing';
    this.tell({ type: 'close' });
  }

  private told(event: ForwardEvent): void {
    switch (event.type) {
      case 'open':
        this.readyState = 'open';
        this.onopen?.(new Event('open'));
        break;
      case 'message':
        this.onmessage?.(new MessageEvent('message', { data: event.data }));
        break;
      case 'sent': {
        const before = this.bufferedAmount;
        this.bufferedAmount -= event.bytes;
        const low = this.bufferedAmountLowThreshold;
        if (before > low && this.bufferedAmount <= low) this.onbufferedamountlow?.(new Event('bufferedamountlow'));
        break;
      }
      case 'closed':
        this.readyState = 'closed';
        this.onclose?.(new Event('close'));
        this.port.close();
        break;
    }
  }

  private tell(command: ForwardCommand, moved?: ArrayBuffer): void {
    this.port.postMessage(command, moved ? [moved] : []);
  }
}
