import type { Logger } from 'pino';
import { SendQueue } from '../../protocol/send-queue.ts';
import { BridgeStartError } from '../start-error.ts';
import { type EventMessage, messageFrames } from './message.ts';

type ZeroMq = typeof import('zeromq');

/** Messages that wait to be sent, of all publishers together. */
const MAX_QUEUED = 8192;
const MAX_QUEUED_BYTES = 32 << 20;
/** The same of one slow subscriber; what comes then is not for it. */
const HIGH_WATER_MARK = 8192;
/** How long the last messages may take to leave, milliseconds. */
const LINGER_MS = 500;

/** One PUB socket that all publishers of this hub share. */
export interface EventPlane {
  /** Where subscribers connect, e.g. `tcp://127.0.0.1:20081`. */
  readonly endpoint: string;
  /** Sends, or leaves out what finds no room: whoever listens sees the hole in the numbers, and asks the recovery endpoint. */
  publish(message: EventMessage): void;
  close(): Promise<void>;
}

export interface EventPlaneDeps {
  /** Numeric address to listen on, and to advertise. */
  readonly host: string;
  readonly log: Logger;
  /** Gives the optional package; rejects where it is not installed. */
  readonly load?: () => Promise<ZeroMq>;
}

/** Opens Dynamo's event plane `zmq` on any free port. Throws `BridgeStartError` where the package `zeromq` is not installed, or the address cannot be had. */
export async function startEventPlane({ host, log, load = importZeroMq }: EventPlaneDeps): Promise<EventPlane> {
  const zmq = await load().catch(() => {
    throw new BridgeStartError(
      "--dynamo: Dynamo's event plane needs the optional package zeromq, which is not installed. Run npm install zeromq.",
    );
  });
  const socket = new zmq.Publisher({
    sendHighWaterMark: HIGH_WATER_MARK,
    linger: LINGER_MS,
    ...(host.includes(':') && { ipv6: true }),
  });
  try {
    await socket.bind(`tcp://${host.includes(':') ? `[${host}]` : host}:*`);
  } catch (error) {
    socket.close();
    const why = error instanceof Error ? error.message : String(error);
    throw new BridgeStartError(
      `DYN_TCP_RPC_HOST ${host}: events cannot be published there: ${why}. Name an address of this machine.`,
    );
  }
  const queue = new SendQueue<EventMessage>({
    send: (message) => socket.send(messageFrames(message)),
    bytes: ({ payload }) => payload.length,
    maxItems: MAX_QUEUED,
    maxBytes: MAX_QUEUED_BYTES,
    leftOut(first) {
      if (first) log.warn('events for Dynamo come faster than they can be published; routers ask for what they missed');
    },
    failed: (error) => log.error({ err: error }, 'events for Dynamo cannot be published'),
  });
  return {
    endpoint: socket.lastEndpoint ?? '',
    publish: (message) => queue.add(message),
    async close() {
      await queue.drained();
      socket.close();
    },
  };
}

function importZeroMq(): Promise<ZeroMq> {
  return import('zeromq');
}
