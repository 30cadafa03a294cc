import { WebSocket } from 'ws';
import { CLOSE } from '../protocol/close-codes.ts';
import type { BulkRelay } from './disagg/relay.ts';
import type { NodeSocket, Wire } from './node-socket.ts';

/** How long a peer may take to answer a close frame before its connection is cut. */
const CLOSE_MS = 1000;

/** Closes; resolves when the connection has ended. A peer that does not read never answers, and is cut off. */
export function closeWebSocket(socket: WebSocket, code: number, reason: string): Promise<void> {
  if (socket.readyState === WebSocket.CLOSED) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.terminate(), CLOSE_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    socket.close(code, reason);
  });
}

/** A WebSocket as the thing that a `NodeSocket` writes to. */
export function wireOf(socket: WebSocket): Wire {
  return {
    send: (text) => socket.send(text),
    close: (code, reason) => void closeWebSocket(socket, code, reason),
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
  };
}

/** A WebSocket on `/cluster/bulk` joins the relay. */
export function connectBulk(socket: WebSocket, relay: BulkRelay): void {
  const bulk = relay.join({
    send: (message, written) => socket.send(message, { binary: true }, written),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: (code, reason) => void closeWebSocket(socket, code, reason),
  });
  socket.on('message', (data: Buffer, isBinary) => (isBinary ? bulk.binary(data) : bulk.text(data.toString())));
  socket.on('close', () => bulk.gone());
  // `close` follows every error; without a listener an error would end the process.
  socket.on('error', () => {});
}

/** Brings what the WebSocket reads to the node's state machine. */
export function connect(socket: WebSocket, node: NodeSocket): void {
  socket.on('message', (data, isBinary) => {
    if (!isBinary) node.receive(data.toString());
    else node.refuse({ close: CLOSE.protocol, code: 'protocol', message: 'a binary message; this socket is for text' });
  });
  socket.on('close', (code, reason) => node.closed(reason.toString() || `its socket closed with code ${code}`));
  // `close` follows every error; without a listener an error would end the process.
  socket.on('error', () => {});
}
