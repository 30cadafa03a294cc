import type { Socket } from 'node:net';
import { Incoming, WireError } from './incoming.ts';
import { acknowledgement, type RequestFrame, requestFrames } from './request-frame.ts';

export interface ConnectionLimits {
  readonly maxPayloadBytes: number;
  /** Bytes of acknowledgements that a frontend may leave unread. */
  readonly maxUnreadBytes: number;
  /** How long a connection may be silent in the middle of a frame, milliseconds. */
  readonly frameMs: number;
}

/** Bytes of requests that are not whole yet, on all connections together. */
export class PendingBytes {
  #total = 0;

  constructor(readonly max: number) {}

  /** One connection has so many more, or fewer. False when all together are too many now. */
  add(bytes: number): boolean {
    this.#total += bytes;
    return this.#total <= this.max;
  }
}

/**
 * Reads the requests of a frontend's connection. `serve` says why one is refused, or null; the acknowledgement goes out at once then, in order,
 * since frontends match them by order alone. What breaks the format or a limit closes the connection, and `cut` is told why.
 */
export function readRequests(
  socket: Socket,
  limits: ConnectionLimits,
  all: PendingBytes,
  serve: (frame: RequestFrame) => string | null,
  cut: (why: string) => void,
): void {
  const incoming = new Incoming(requestFrames(limits.maxPayloadBytes));
  let pending = 0;
  const end = (why: string) => {
    cut(why);
    socket.destroy();
  };
  socket.on('data', (chunk) => {
    try {
      for (const frame of incoming.push(chunk)) {
        const refusal = serve(frame);
        // Of all texts the one that a frontend takes for a refusal of this request alone.
        socket.write(acknowledgement(refusal === null ? null : `Server unavailable: ${refusal}`));
      }
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return end(error.message);
    }
    const more = incoming.pending - pending;
    pending = incoming.pending;
    if (!all.add(more)) return end('too many bytes of unfinished requests are held');
    if (socket.writableLength > limits.maxUnreadBytes) return end('its acknowledgements are not read');
    socket.setTimeout(pending > 0 ? limits.frameMs : 0);
  });
  socket.on('timeout', () => end(`silent for ${limits.frameMs / 1000} seconds in the middle of a frame`));
  socket.on('close', () => all.add(-pending));
  // `close` follows.
  socket.on('error', () => {});
}
