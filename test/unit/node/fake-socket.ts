import type { Connect, SocketListener } from '../../../src/node/socket.ts';
import type { HubMessage, NodeMessage } from '../../../src/protocol/messages.ts';

/** One connection that a link opened, seen from the hub's side. */
export interface FakeConnection {
  readonly listener: SocketListener;
  readonly sent: NodeMessage[];
  bufferedAmount: number;
  closedWith: { code: number; reason: string } | null;
  /** What the hub says. */
  say(message: HubMessage): void;
  /** The hub closes, or the network does. */
  drop(code: number, reason?: string): void;
  /** Messages of one type that the node sent here, in order. */
  of<T extends NodeMessage['type']>(type: T): Extract<NodeMessage, { type: T }>[];
}

/** Sockets that go nowhere: a test plays the hub. */
export function fakeSockets(): { connect: Connect; connections: FakeConnection[]; last(): FakeConnection } {
  const connections: FakeConnection[] = [];
  const connect: Connect = (listener) => {
    const connection: FakeConnection = {
      listener,
      sent: [],
      bufferedAmount: 0,
      closedWith: null,
      say: (message) => listener.message(JSON.stringify(message)),
      drop: (code, reason = '') => listener.closed(code, reason),
      of: <T extends NodeMessage['type']>(type: T) =>
        connection.sent.filter((message): message is Extract<NodeMessage, { type: T }> => message.type === type),
    };
    connections.push(connection);
    return {
      get bufferedAmount() {
        return connection.bufferedAmount;
      },
      send: (text) => {
        if (connection.closedWith) throw new Error('send after close');
        connection.sent.push(JSON.parse(text) as NodeMessage);
      },
      close: (code, reason) => {
        connection.closedWith = { code, reason };
      },
    };
  };
  return {
    connect,
    connections,
    last: () => {
      const connection = connections.at(-1);
      if (!connection) throw new Error('no connection was opened');
      return connection;
    },
  };
}

export const WELCOME: Extract<HubMessage, { type: 'welcome' }> = {
  type: 'welcome',
  version: 'quire.v1',
  node: 'node-1',
  resumeToken: 'secret',
  epoch: 1,
  model: { name: 'scripted', fingerprint: 'f'.repeat(64), base: '/models/scripted/', files: [] },
  blockSize: 16,
  hashAlgo: 'xxh3',
  options: {},
  live: [],
};
