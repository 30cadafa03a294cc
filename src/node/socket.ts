import { closeReason } from '../protocol/close-codes.ts';
import { VERSIONS } from '../protocol/messages.ts';

/** What a link needs of a WebSocket; tests put a fake in its place. */
export interface Socket {
  /** Bytes given to `send` that the network has not taken yet. */
  readonly bufferedAmount: number;
  send(text: string): void;
  /** `code` is 1000 or between 3000 and 4999: a browser allows no other. */
  close(code: number, reason: string): void;
}

export interface SocketListener {
  opened(): void;
  message(text: string): void;
  /** Last call, exactly once, also when the connection never opened. */
  closed(code: number, reason: string): void;
}

/** Opens a socket to the hub; never throws, a failure comes as `closed`. */
export type Connect = (listener: SocketListener) => Socket;

/** The hub's `/cluster` over the browser's own WebSocket. `hubUrl` is the page's origin, http or https. */
export function webSocketConnect(hubUrl: string): Connect {
  const url = new URL('/cluster', hubUrl);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return (listener) => {
    const socket = new WebSocket(url, [...VERSIONS]);
    socket.onopen = () => listener.opened();
    socket.onmessage = (event: MessageEvent<unknown>) =>
      listener.message(typeof event.data === 'string' ? event.data : '');
    socket.onclose = (event) => listener.closed(event.code, event.reason);
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (text) => socket.send(text),
      close: (code, reason) => socket.close(code, closeReason(reason)),
    };
  };
}
