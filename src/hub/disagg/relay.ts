import type { Logger } from 'pino';
import type { Clock } from '../../protocol/clock.ts';
import { CLOSE, type CloseCode, closeReason } from '../../protocol/close-codes.ts';
import { BulkHello } from '../../protocol/transfer.ts';
import type { HubLimits } from '../config.ts';
import { TokenBucket } from '../token-bucket.ts';
import type { Transfers } from './transfers.ts';

/** What the relay needs of a WebSocket. */
export interface BulkWire {
  /** `written` is called when the network has taken the message, or never will. */
  send(message: Uint8Array, written: () => void): void;
  /** Reads nothing from the other side until `resume`, which lets the network push back on it. */
  pause(): void;
  resume(): void;
  close(code: CloseCode, reason: string): void;
}

export interface RelayOptions {
  readonly transfers: Pick<Transfers, 'passage' | 'cancel' | 'channelLost'>;
  /** Whether a node of this id is connected, and this is its resume token. */
  readonly known: (node: string, token: string) => boolean;
  readonly clock: Clock;
  readonly limits: HubLimits;
  readonly log: Logger;
}

/** A hello is an id and a token. */
const MAX_HELLO_CHARS = 8192;

/**
 * The bulk sockets of all nodes: frames of a transfer go from either of its nodes to the other (docs/protocol.md, R rules). The hub keeps
 * little: when a node does not take what waits for it, nothing more is read from those who send to it.
 */
export class BulkRelay {
  readonly #options: RelayOptions;
  readonly #sockets = new Set<BulkSocket>();
  /** Those that said who they are. */
  readonly #nodes = new Map<string, BulkSocket>();
  /** Nodes of which nothing is read until that socket has taken more: whichever socket they have, so that another one is not read the sooner. */
  readonly #paused = new Map<string, BulkSocket>();
  /** Bytes that wait for all nodes together. */
  #waiting = 0;

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#sockets.size;
  }

  /** Bytes that wait for nodes to take them. */
  get waiting(): number {
    return this.#waiting;
  }

  /** A socket on `/cluster/bulk`, just opened. */
  join(wire: BulkWire): BulkSocket {
    const socket = new BulkSocket(wire, this.#options, {
      greeted: (node) => this.#greeted(socket, node),
      frame: (id, message) => this.#forward(socket, id, message),
      closed: () => this.#closed(socket),
    });
    this.#sockets.add(socket);
    return socket;
  }

  /** The node's own connection is gone, so that nobody can speak for it here. */
  left(node: string): void {
    this.#nodes.get(node)?.end(CLOSE.goingAway, "the node's connection at /cluster is gone");
  }

  /** The hub ends. */
  end(): void {
    for (const socket of [...this.#sockets]) socket.end(CLOSE.goingAway, 'the hub ends');
  }

  #greeted(socket: BulkSocket, node: string): void {
    this.#nodes.get(node)?.end(CLOSE.replaced, 'the node opened another bulk socket');
    this.#nodes.set(node, socket);
    if (this.#paused.has(node)) socket.pause();
  }

  #forward(from: BulkSocket, id: string, message: Uint8Array): void {
    const { transfers, limits } = this.#options;
    const passage = transfers.passage(id, from.node);
    if (passage.kind === 'stranger') {
      from.end(CLOSE.protocol, `a frame of transfer ${id}, which is between other nodes`);
      return;
    }
    if (passage.kind === 'nobody') {
      from.dropped(message.length);
      return;
    }
    const to = this.#nodes.get(passage.node);
    if (to === undefined) {
      transfers.cancel(id, 'the other node has no bulk socket to the hub');
      return;
    }
    const { length } = message;
    this.#waiting += length;
    to.deliver(message, () => {
      this.#waiting -= length;
      this.#resume();
    });
    if (to.waiting <= limits.bulkBufferedBytes && this.#waiting <= limits.bulkTotalBytes) return;
    this.#paused.set(from.node, to);
    from.pause();
  }

  #resume(): void {
    const { bulkBufferedBytes, bulkTotalBytes } = this.#options.limits;
    if (this.#waiting > bulkTotalBytes) return;
    for (const [node, to] of this.#paused) {
      // Well below where it stopped, so that it does not stop again at once.
      if (to.waiting > bulkBufferedBytes / 4) continue;
      this.#paused.delete(node);
      this.#nodes.get(node)?.resume();
    }
  }

  #closed(socket: BulkSocket): void {
    this.#sockets.delete(socket);
    if (this.#nodes.get(socket.node) === socket) {
      this.#nodes.delete(socket.node);
      this.#options.transfers.channelLost(socket.node, 'a bulk socket to the hub closed');
    }
    this.#resume();
  }
}

interface BulkListener {
  greeted(node: string): void;
  /** message: whole, with the transfer's id before the frame. */
  frame(transfer: string, message: Uint8Array): void;
  closed(): void;
}

/** One node's bulk socket. */
export class BulkSocket {
  /** Empty until it said who it is. */
  node = '';
  /** Bytes that wait for the network to take them. */
  waiting = 0;
  readonly #pending = new Set<() => void>();
  readonly #messages: TokenBucket;
  readonly #droppedBytes: TokenBucket;
  #stopTimer: () => void;
  #closed = false;
  #paused = false;

  constructor(
    private readonly wire: BulkWire,
    private readonly options: RelayOptions,
    private readonly listener: BulkListener,
  ) {
    const { clock, limits } = options;
    this.#messages = new TokenBucket(limits.messagesPerSecond, clock);
    this.#droppedBytes = new TokenBucket(limits.bytesPerSecond, clock);
    this.#stopTimer = clock.after(limits.helloMs, () =>
      this.end(CLOSE.timeout, `no hello within ${limits.helloMs} ms`),
    );
  }

  /** A text message. */
  text(message: string): void {
    if (this.#closed) return;
    const hello = this.node === '' && message.length <= MAX_HELLO_CHARS ? readHello(message) : null;
    if (hello === null) {
      this.end(CLOSE.protocol, 'a text message that is no first hello; frames are binary');
    } else if (!this.options.known(hello.node, hello.token)) {
      this.end(CLOSE.ticket, 'no node of this id and token is connected');
    } else {
      this.#stopTimer();
      this.node = hello.node;
      this.listener.greeted(hello.node);
    }
  }

  /** A binary message: u16 little-endian length of the transfer's id, the id in UTF-8, and a frame that the hub does not read. */
  binary(message: Uint8Array): void {
    if (this.#closed) return;
    const id = this.node === '' ? null : transferOf(message);
    if (!this.#messages.take(1)) this.end(CLOSE.flood, 'more messages than a node may send');
    else if (this.node === '') this.end(CLOSE.protocol, 'a frame before hello');
    else if (id === null) this.end(CLOSE.protocol, 'a frame without the id of its transfer');
    else this.listener.frame(id, message);
  }

  /** The connection is gone; also called once after `end`. */
  gone(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTimer();
    for (const written of [...this.#pending]) written();
    this.listener.closed();
  }

  end(code: CloseCode, reason: string): void {
    if (this.#closed) return;
    this.options.log.info({ node: this.node, code }, `a bulk socket is closed: ${reason}`);
    // What is paused would never see the other side's answer.
    this.resume();
    this.wire.close(code, closeReason(reason));
    this.gone();
  }

  /** A frame came that nobody takes: of a transfer that is over, which happens. */
  dropped(bytes: number): void {
    if (!this.#droppedBytes.take(bytes)) this.end(CLOSE.flood, 'more bytes for no open transfer than a node may send');
  }

  /** done: called once, when the message waits no more. */
  deliver(message: Uint8Array, done: () => void): void {
    const written = () => {
      if (!this.#pending.delete(written)) return;
      this.waiting -= message.length;
      this.#watch();
      done();
    };
    this.#pending.add(written);
    this.waiting += message.length;
    if (this.#pending.size === 1) this.#watch();
    this.wire.send(message, written);
  }

  pause(): void {
    this.#paused = true;
    this.wire.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.wire.resume();
  }

  /** A node that takes nothing for so long holds up those who send to it, and others with them. */
  #watch(): void {
    const { clock, limits } = this.options;
    this.#stopTimer();
    if (this.#pending.size === 0 || this.#closed) return;
    this.#stopTimer = clock.after(limits.bulkStallMs, () =>
      this.end(CLOSE.slowReader, `the node does not read: ${this.waiting} bytes wait for it`),
    );
  }
}

function readHello(message: string): BulkHello | null {
  try {
    const parsed = BulkHello.safeParse(JSON.parse(message));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Longest id of a transfer in UTF-8. */
const MAX_ID_BYTES = 512;

function transferOf(message: Uint8Array): string | null {
  if (message.length < 2) return null;
  const length = (message[0] ?? 0) | ((message[1] ?? 0) << 8);
  if (length === 0 || length > MAX_ID_BYTES || 2 + length > message.length) return null;
  return new TextDecoder().decode(message.subarray(2, 2 + length));
}
