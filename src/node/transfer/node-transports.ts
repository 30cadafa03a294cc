import type { Role } from '../../protocol/messages.ts';
import type { TransportName } from '../../protocol/transfer.ts';
import type { Welcome } from '../link.ts';
import type { LocalTransport } from './local.ts';
import type { RelayTransport } from './relay.ts';
import type { Transport } from './transport.ts';
import type { WebRtcTransport } from './webrtc.ts';

export type NodeTransport = LocalTransport | RelayTransport | WebRtcTransport;

/** The transports of one node, for as long as it is one. */
export class NodeTransports {
  /** Frames that came for a transfer that was over; none was written. */
  lateFrames = 0;
  readonly late = (): void => {
    this.lateFrames++;
  };

  private readonly all: NodeTransport[] = [];

  constructor(readonly role: Role) {}

  /** From the best to the last. */
  add(transport: NodeTransport): void {
    this.all.push(transport);
  }

  /** Those there are, best first. */
  get names(): TransportName[] {
    return this.all.map(({ name }) => name);
  }

  /** What the nodes of one browser profile have in common; null where they cannot reach each other. */
  get localScope(): string | null {
    for (const each of this.all) if (each.name === 'local') return each.scope;
    return null;
  }

  /** The hub knows this node under this id from now on. */
  attach({ node, resumeToken }: Pick<Welcome, 'node' | 'resumeToken'>): void {
    for (const each of this.all) {
      if (each.name === 'local') each.attach(node);
      if (each.name === 'relay') each.attach(node, resumeToken);
    }
  }

  /** Throws where this node has no such transport. */
  get(name: TransportName): Transport {
    const found = this.all.find((each) => each.name === name);
    if (!found) throw new Error(`This node has no transport ${name}.`);
    return found;
  }

  signalled(transfer: string, data: string): void {
    for (const each of this.all) if (each.name === 'webrtc') each.signalled(transfer, data);
  }

  close(): void {
    for (const each of this.all) each.close();
  }
}
