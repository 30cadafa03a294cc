import type { Clock } from '../../protocol/clock.ts';
import { isFinalClose } from '../../protocol/close-codes.ts';

/** What a bulk link needs of a WebSocket; tests put a fake in its place. */
export interface BulkSocket {
  /** Bytes given to `send` that the network has not taken yet. */
  readonly bufferedAmount: number;
  send(message: string | Uint8Array<ArrayBuffer>): void;
  close(code: number, reason: string): void;
}

export interface BulkSocketListener {
  opened(): void;
  message(bytes: Uint8Array<ArrayBuffer>): void;
  /** Last call, exactly once, also when the connection never opened. */
  closed(code: number, reason: string): void;
}

export type BulkConnect = (listener: BulkSocketListener) => BulkSocket;

/** The hub's `/cluster/bulk` over the browser's own WebSocket. `hubUrl` is the page's origin, http or https. */
export function bulkConnect(hubUrl: string): BulkConnect {
  const url = new URL('/cluster/bulk', hubUrl);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return (listener) => {
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => listener.opened();
    socket.onmessage = (event: MessageEvent<unknown>) =>
      listener.message(event.data instanceof ArrayBuffer ? new Uint8Array(event.data) : new Uint8Array(0));
    socket.onclose = (event) => listener.closed(event.code, event.reason);
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (message) => socket.send(message),
      close: (code, reason) => socket.close(code, reason),
    };
  };
}

export interface BulkLinkListener {
  opened(): void;
  message(bytes: Uint8Array<ArrayBuffer>): void;
  /** The socket has taken enough to write on. */
  drained(): void;
  lost(reason: string): void;
}

/** Unsent bytes from which on nothing is written, and below which it goes on. */
const HIGH_WATER = 4 << 20;
const LOW_WATER = 1 << 20;
/** A WebSocket does not tell when it has sent: looked at so often while it is full. */
const DRAIN_MS = 5;
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 5000;

/**
 * A node's second socket to its hub, for KV blocks alone, so that they never delay a heartbeat. Opened as the node that
 * the link says this is; opened again, with growing pauses, for as long as the link stands.
 */
export class BulkLink {
  private socket: BulkSocket | null = null;
  private identity: { readonly node: string; readonly token: string } | null = null;
  private ready = false;
  private full = false;
  private tries = 0;
  private stopRetry: () => void = () => {};
  private stopDrain: () => void = () => {};

  constructor(
    private readonly options: {
      readonly connect: BulkConnect;
      readonly clock: Clock;
      /** Uniform in [0, 1). */
      readonly random: () => number;
      readonly listener: BulkLinkListener;
    },
  ) {}

  get isOpen(): boolean {
    return this.ready;
  }

  get writable(): boolean {
    if (this.full || !this.socket || !this.ready) return false;
    if (this.socket.bufferedAmount < HIGH_WATER) return true;
    this.full = true;
    this.watch();
    return false;
  }

  /** Opens the socket as `node`, with the secret of its welcome; what was open before is closed. */
  open(node: string, token: string): void {
    this.close();
    this.identity = { node, token };
    this.tries = 0;
    this.connect();
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.ready) this.socket?.send(bytes);
  }

  close(): void {
    this.identity = null;
    this.stopRetry();
    const { socket } = this;
    this.forget('the node closed it');
    socket?.close(1000, '');
  }

  private connect(): void {
    const socket = this.options.connect({
      opened: () => {
        if (socket !== this.socket || !this.identity) return;
        const { node, token } = this.identity;
        socket.send(JSON.stringify({ type: 'bulk', node, token }));
        this.ready = true;
        this.options.listener.opened();
      },
      message: (bytes) => {
        if (socket !== this.socket) return;
        this.tries = 0;
        this.options.listener.message(bytes);
      },
      closed: (code, reason) => {
        if (socket !== this.socket) return;
        this.forget(reason || `the bulk socket closed with code ${code}`);
        if (!isFinalClose(code)) this.retry();
      },
    });
    this.socket = socket;
  }

  private retry(): void {
    const longest = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(this.tries++, 16));
    const wait = Math.round(longest * (0.5 + 0.5 * this.options.random()));
    this.stopRetry = this.options.clock.after(wait, () => this.connect());
  }

  private forget(reason: string): void {
    const wasReady = this.ready;
    this.socket = null;
    this.ready = false;
    this.full = false;
    this.stopDrain();
    if (wasReady) this.options.listener.lost(reason);
  }

  private watch(): void {
    this.stopDrain = this.options.clock.after(DRAIN_MS, () => {
      if (!this.socket) return;
      if (this.socket.bufferedAmount > LOW_WATER) {
        this.watch();
        return;
      }
      this.full = false;
      this.options.listener.drained();
    });
  }
}
