import * as z from 'zod';

/** What a page's worker asks of the broker. */
export const BrokerCommand = z.discriminatedUnion('type', [
  /** This port is the way to node `node` from now on. */
  z.object({ type: z.literal('attach'), node: z.string().max(4096) }),
  z.object({ type: z.literal('detach') }),
  /** A port each for this node and for `peer`, joined to each other. */
  z.object({ type: z.literal('open'), transfer: z.string().max(128), peer: z.string().max(4096) }),
]);
export type BrokerCommand = z.infer<typeof BrokerCommand>;

/** What the broker tells a page's worker. */
export type BrokerEvent =
  /** First message: the name of this broker. Nodes with the same one reach each other. */
  | { readonly type: 'scope'; readonly scope: string }
  | { readonly type: 'opened'; readonly transfer: string; readonly port: MessagePort }
  | { readonly type: 'no_peer'; readonly transfer: string }
  | { readonly type: 'incoming'; readonly transfer: string; readonly from: string; readonly port: MessagePort };

/** Pages of one browser profile; far more than one GPU could feed. */
const MAX_NODES = 256;

/** Brings pages of one origin and browser profile together: makes ports, and sees nothing of what goes over them. */
export class Broker {
  private readonly nodes = new Map<string, MessagePort>();

  constructor(
    private readonly scope: string,
    private readonly createChannel: () => MessageChannel = () => new MessageChannel(),
  ) {}

  /** A page has come. */
  connect(port: MessagePort): void {
    port.onmessage = (event: MessageEvent<unknown>) => {
      const command = BrokerCommand.safeParse(event.data);
      if (command.success) this.handle(command.data, port);
    };
    // Where the browser tells that the page is gone; elsewhere the hub does, which knows its nodes.
    port.addEventListener('close', () => this.detach(port));
    port.start();
    tell(port, { type: 'scope', scope: this.scope });
  }

  private handle(command: BrokerCommand, port: MessagePort): void {
    switch (command.type) {
      case 'attach':
        this.detach(port);
        if (this.nodes.size < MAX_NODES || this.nodes.has(command.node)) this.nodes.set(command.node, port);
        break;
      case 'detach':
        this.detach(port);
        break;
      case 'open':
        this.open(command.transfer, command.peer, port);
        break;
    }
  }

  private open(transfer: string, peer: string, port: MessagePort): void {
    const from = this.nameOf(port);
    const other = this.nodes.get(peer);
    if (from === null || !other || other === port) {
      tell(port, { type: 'no_peer', transfer });
      return;
    }
    const { port1, port2 } = this.createChannel();
    tell(other, { type: 'incoming', transfer, from, port: port2 }, port2);
    tell(port, { type: 'opened', transfer, port: port1 }, port1);
  }

  private nameOf(port: MessagePort): string | null {
    for (const [node, each] of this.nodes) if (each === port) return node;
    return null;
  }

  private detach(port: MessagePort): void {
    const node = this.nameOf(port);
    if (node !== null) this.nodes.delete(node);
  }
}

function tell(port: MessagePort, event: BrokerEvent, moved?: MessagePort): void {
  port.postMessage(event, moved ? [moved] : []);
}
