import type { ServerResponse } from 'node:http';
import type { Http2Bindings, HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type EventSink, EventStream } from '../frontend/sse.ts';

type Fetch = (request: Request, env: HttpBindings | Http2Bindings) => Response | Promise<Response>;

/**
 * The same answers, but streams of events are written by the hub itself: through a Web stream and its reader, which both take promises for each
 * piece, a token would cost half as much again. `fetch` is an app's, for `getRequestListener`.
 */
export function writingEvents(fetch: Fetch): Fetch {
  return async (request, env) => {
    const response = await fetch(request, env);
    if (!(response.body instanceof EventStream)) return response;
    const outgoing = env.outgoing as ServerResponse;
    outgoing.setHeaders(response.headers);
    outgoing.writeHead(response.status);
    // Alone, so that writing past the response finds its headers gone.
    outgoing.flushHeaders();
    pump(response.body, outgoing);
    return RESPONSE_ALREADY_SENT;
  };
}

function pump(stream: EventStream, outgoing: ServerResponse): void {
  const sink = new ResponseSink(outgoing, () => events.more());
  const events = stream.writeTo(sink);
  outgoing.once('close', () => events.left());
  if (outgoing.destroyed) events.left();
  else events.more();
}

class ResponseSink implements EventSink {
  constructor(
    private readonly outgoing: ServerResponse,
    private readonly more: () => void,
  ) {}

  write(text: string): boolean {
    const { outgoing } = this;
    const { socket } = outgoing;
    // HTTP/1.0 has no chunks; of several requests sent at once only the first one's answer has the socket.
    if (socket === null || !outgoing.chunkedEncoding) return this.#written(outgoing, outgoing.write(text));
    // A chunk as one string is one write: `outgoing.write` would give the socket its size, data and line ends each on its own.
    return this.#written(socket, socket.write(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`));
  }

  get empty(): boolean {
    return !(this.outgoing.socket ?? this.outgoing).writableNeedDrain;
  }

  end(): void {
    this.outgoing.end();
  }

  #written(target: { once(event: 'drain', listener: () => void): unknown }, room: boolean): boolean {
    if (!room) target.once('drain', this.more);
    return room;
  }
}
