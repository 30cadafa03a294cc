import type { Clock } from '../../protocol/clock.ts';
import type { BrokerCommand, BrokerEvent } from '../page/broker.ts';
import { Arrivals } from './arrivals.ts';
import { PortChannel } from './port-channel.ts';
import { type Channel, type ChannelOf, orAborted, type Transport } from './transport.ts';

/** A broker that does not answer at once is none. */
const SCOPE_MS = 3000;

/** Between pages of one origin and browser profile: MessagePorts, which the broker (a SharedWorker) hands out. */
export class LocalTransport implements Transport {
  readonly name = 'local';
  private readonly incoming: Arrivals<PortChannel>;
  private readonly opening = new Map<string, { give: (port: MessagePort) => void; fail: (error: Error) => void }>();

  /**
   * `broker`: this page's port to it. `scope`: its name, from `brokerScope`. `late` is called for each frame of a channel
   * that is closed here.
   */
  constructor(
    private readonly broker: MessagePort,
    readonly scope: string,
    clock: Clock,
    private readonly late: () => void,
  ) {
    this.incoming = new Arrivals(clock);
    broker.onmessage = (event: MessageEvent<BrokerEvent>) => this.told(event.data);
  }

  /** Under this id the other pages find this node. */
  attach(node: string): void {
    this.say({ type: 'attach', node });
  }

  open({ transfer, peer }: ChannelOf, signal: AbortSignal): Promise<Channel> {
    const opened = new Promise<MessagePort>((give, fail) => this.opening.set(transfer, { give, fail }));
    this.say({ type: 'open', transfer, peer });
    const channel = opened.then((port) => new PortChannel(port, this.late));
    return orAborted(channel, signal, (late) => late.close()).finally(() => this.opening.delete(transfer));
  }

  accept(of: ChannelOf, signal: AbortSignal): Promise<Channel> {
    return this.incoming.take(of, signal);
  }

  close(): void {
    this.say({ type: 'detach' });
    this.incoming.clear();
    for (const { fail } of this.opening.values()) fail(new Error('This node leaves.'));
    this.broker.close();
  }

  private told(event: BrokerEvent): void {
    switch (event.type) {
      case 'scope':
        break;
      case 'opened':
        this.opened(event.transfer, event.port);
        break;
      case 'no_peer':
        this.opening.get(event.transfer)?.fail(new Error('The prefill node is not in this browser any more.'));
        break;
      case 'incoming':
        this.incoming.put(event.transfer, event.from, new PortChannel(event.port, this.late));
        break;
    }
  }

  private opened(transfer: string, port: MessagePort): void {
    const waiting = this.opening.get(transfer);
    if (waiting) waiting.give(port);
    else port.close();
  }

  private say(command: BrokerCommand): void {
    this.broker.postMessage(command);
  }
}

/** Name of the broker behind `port`; null when it does not say it in time. */
export function brokerScope(port: MessagePort, clock: Clock): Promise<string | null> {
  return new Promise((resolve) => {
    const stop = clock.after(SCOPE_MS, () => resolve(null));
    port.onmessage = (event: MessageEvent<BrokerEvent>) => {
      if (event.data.type !== 'scope') return;
      stop();
      resolve(event.data.scope);
    };
  });
}
