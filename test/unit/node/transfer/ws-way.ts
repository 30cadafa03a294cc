import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import type { BulkConnect } from '../../../../src/node/transfer/bulk-link.ts';
import { RelayTransport } from '../../../../src/node/transfer/relay.ts';
import { systemClock } from '../../../../src/protocol/clock.ts';
import { DECODE, PREFILL, type Way } from './stand-ins.ts';

/** Two nodes at a server that passes on what one sends to the other, over WebSockets of this machine. */
export async function socketsWay(): Promise<Way> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.on('connection', (socket) =>
    socket.on('message', (data, isBinary) => {
      if (isBinary) for (const other of server.clients) if (other !== socket) other.send(data);
    }),
  );
  const connect: BulkConnect = (listener) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`);
    socket.on('open', () => listener.opened());
    socket.on('message', (data: Buffer) => listener.message(new Uint8Array(data)));
    socket.on('close', (code, reason) => listener.closed(code, reason.toString()));
    socket.on('error', () => {});
    return socket;
  };
  let late = 0;
  const node = (name: string) => {
    const transport = new RelayTransport({ connect, clock: systemClock, random: () => 0, late: () => late++ });
    transport.attach(name, `secret of ${name}`);
    return transport;
  };
  const [decode, prefill] = [node(DECODE), node(PREFILL)];
  const close = () => {
    for (const each of [decode, prefill]) each.close();
    server.close();
  };
  return { decode, prefill, late: () => late, close };
}
