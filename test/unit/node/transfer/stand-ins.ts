import { Broker } from '../../../../src/node/page/broker.ts';
import type { PeerCommand, PeerEvent } from '../../../../src/node/page/peers.ts';
import type { BulkConnect, BulkSocketListener } from '../../../../src/node/transfer/bulk-link.ts';
import type { DataPipe } from '../../../../src/node/transfer/data-pipe.ts';
import { brokerScope, LocalTransport } from '../../../../src/node/transfer/local.ts';
import { RelayTransport } from '../../../../src/node/transfer/relay.ts';
import type { Transport } from '../../../../src/node/transfer/transport.ts';
import { WebRtcTransport } from '../../../../src/node/transfer/webrtc.ts';
import { systemClock } from '../../../../src/protocol/clock.ts';

/** Two nodes that have one transport in common, and what a test may do to the way between them. */
export interface Way {
  readonly decode: Transport;
  readonly prefill: Transport;
  /** Late frames of both. */
  late(): number;
  close(): void;
}

export const DECODE = 'node-d';
export const PREFILL = 'node-p';

/** Two pages' workers at one broker, over MessageChannels as browsers have them. */
export async function localWay(): Promise<Way> {
  const broker = new Broker('scope-1');
  let late = 0;
  const page = async (node: string) => {
    const { port1, port2 } = new MessageChannel();
    const scope = brokerScope(port1, systemClock);
    broker.connect(port2);
    const transport = new LocalTransport(port1, (await scope) ?? '', systemClock, () => late++);
    transport.attach(node);
    return transport;
  };
  const [decode, prefill] = [await page(DECODE), await page(PREFILL)];
  return { decode, prefill, late: () => late, close: () => [decode, prefill].map((each) => each.close()) };
}

/** A hub that passes on what one of two nodes sends to the other. */
export class RelayHub {
  readonly sockets: { node: string; listener: BulkSocketListener; bufferedAmount: number; hello: unknown }[] = [];
  /** Set: messages stay in the sender's buffer until it is unset and `flush` called. */
  stuck = false;
  private held: (() => void)[] = [];

  readonly connect: BulkConnect = (listener) => {
    const socket = { node: '', listener, bufferedAmount: 0, hello: null as unknown };
    this.sockets.push(socket);
    queueMicrotask(() => listener.opened());
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (message) => {
        if (typeof message === 'string') {
          socket.hello = JSON.parse(message);
          return;
        }
        socket.bufferedAmount += message.length;
        const go = () => {
          socket.bufferedAmount -= message.length;
          const other = this.sockets.findLast((each) => each !== socket);
          other?.listener.message(message.slice());
        };
        if (this.stuck) this.held.push(go);
        else setImmediate(go);
      },
      close: () => {},
    };
  };

  flush(): void {
    for (const go of this.held.splice(0)) go();
  }
}

export async function relayWay(hub = new RelayHub()): Promise<Way> {
  let late = 0;
  const node = (name: string) => {
    const options = { connect: hub.connect, clock: systemClock, random: () => 0, late: () => late++ };
    const transport = new RelayTransport(options);
    transport.attach(name, `secret of ${name}`);
    return transport;
  };
  const [decode, prefill] = [node(DECODE), node(PREFILL)];
  return { decode, prefill, late: () => late, close: () => [decode, prefill].map((each) => each.close()) };
}

/** One end of a data channel that takes as much at a time as a browser's does, and delivers it a turn later. */
class FakePipe implements DataPipe {
  readyState: RTCDataChannelState = 'connecting';
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  binaryType: BinaryType = 'blob';
  onopen: DataPipe['onopen'] = null;
  onmessage: DataPipe['onmessage'] = null;
  onclose: DataPipe['onclose'] = null;
  onbufferedamountlow: DataPipe['onbufferedamountlow'] = null;
  other: FakePipe | null = null;
  longest = 0;

  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.readyState !== 'open') throw new Error('InvalidStateError');
    if (bytes.length > 64 << 10) throw new Error(`a message of ${bytes.length} bytes`);
    this.bufferedAmount += bytes.length;
    this.longest = Math.max(this.longest, this.bufferedAmount);
    const copy = bytes.slice().buffer;
    setImmediate(() => {
      const before = this.bufferedAmount;
      this.bufferedAmount -= copy.byteLength;
      this.other?.onmessage?.(new MessageEvent('message', { data: copy }));
      const low = this.bufferedAmountLowThreshold;
      if (before > low && this.bufferedAmount <= low) this.onbufferedamountlow?.(new Event('bufferedamountlow'));
    });
  }

  close(): void {
    if (this.readyState === 'closed' || this.readyState === 'closing') return;
    this.readyState = 'closing';
    setImmediate(() => {
      for (const each of [this, this.other]) {
        if (!each || each.readyState === 'closed') continue;
        each.readyState = 'closed';
        each.onclose?.(new Event('close'));
      }
    });
  }

  open(): void {
    this.readyState = 'open';
    this.onopen?.(new Event('open'));
  }
}

/** A worker's port to its page, which a test plays. */
class FakePort {
  onmessage: ((event: { data: PeerEvent }) => void) | null = null;
  told: (command: PeerCommand) => void = () => {};

  postMessage(command: PeerCommand): void {
    this.told(command);
  }

  say(event: PeerEvent): void {
    this.onmessage?.({ data: event });
  }

  close(): void {}
}

/** Two workers whose pages reach each other: signals go the way that the hub gives them. */
export async function webrtcWay(): Promise<Way & { readonly pipes: FakePipe[] }> {
  let late = 0;
  const pipes: FakePipe[] = [];
  const ports = { decode: new FakePort(), prefill: new FakePort() };
  const make = (port: FakePort, other: () => WebRtcTransport) =>
    new WebRtcTransport({
      page: port as unknown as MessagePort,
      clock: systemClock,
      signal: (transfer, data) => setImmediate(() => other().signalled(transfer, data)),
      late: () => late++,
    });
  const decode: WebRtcTransport = make(ports.decode, () => prefill);
  const prefill: WebRtcTransport = make(ports.prefill, () => decode);
  ports.decode.told = (command) => {
    if (command.type !== 'offer') return;
    const [near, far] = [new FakePipe(), new FakePipe()];
    near.other = far;
    far.other = near;
    pipes.push(near, far);
    const { transfer } = command;
    ports.decode.say({ type: 'channel', transfer, offered: true, channel: near as unknown as RTCDataChannel });
    ports.decode.say({ type: 'signal', transfer, data: 'offer' });
  };
  ports.prefill.told = (command) => {
    if (command.type !== 'signal') return;
    const far = pipes.at(-1)!;
    const { transfer } = command;
    ports.prefill.say({ type: 'channel', transfer, offered: false, channel: far as unknown as RTCDataChannel });
    far.open();
    far.other?.open();
  };
  return { decode, prefill, pipes, late: () => late, close: () => [decode, prefill].map((each) => each.close()) };
}
