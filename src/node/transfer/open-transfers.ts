import { pageOptions } from '../../config/options.ts';
import type { Clock } from '../../protocol/clock.ts';
import type { TransportName } from '../../protocol/transfer.ts';
import { createPayloadHash } from '../../protocol/transfer-frame.ts';
import { blockHasherOf } from '../block-hasher.ts';
import type { Link, Welcome } from '../link.ts';
import type { BulkConnect } from './bulk-link.ts';
import { brokerScope, LocalTransport } from './local.ts';
import { type NodeTransport, NodeTransports } from './node-transports.ts';
import { transferPlan } from './plan.ts';
import { RelayTransport } from './relay.ts';
import { Transfers } from './transfers.ts';
import { WebRtcTransport } from './webrtc.ts';

/** What of the browser transfers are made with. */
export interface TransferPlace {
  /** The page's query; wins over what the hub offers. */
  readonly query: string;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
  readonly bulk: BulkConnect;
  /** A port to the broker of all pages of this browser profile; null where the browser has no SharedWorker. */
  openBroker(): Promise<MessagePort | null>;
  /** A port to this page's WebRTC connections; null where the browser has no WebRTC. */
  openPeers(): Promise<MessagePort | null>;
}

/** Opens the way for transfers of the node that `welcome` made this. */
export type OpenTransfers = (
  welcome: Welcome,
  link: Pick<Link, 'sendTransfer'>,
  changed: () => void,
) => Promise<Transfers>;

/** By the page's options: its role, and those of the transports it may use that this browser has. Rejects with `OptionError`. */
export function transfersIn(place: TransferPlace): OpenTransfers {
  return async (welcome, link, changed) => {
    const plan = transferPlan(pageOptions(new URLSearchParams(place.query), welcome.options));
    const [hasher, payloadHash] = await Promise.all([blockHasherOf(welcome), createPayloadHash()]);
    const transports = new NodeTransports(plan.role);
    for (const name of plan.transports) {
      const opened = await open(name, place, link, transports.late);
      if (opened) transports.add(opened);
    }
    return new Transfers({ link, clock: place.clock, transports, hasher, payloadHash, changed });
  };
}

async function open(
  name: TransportName,
  { clock, random, bulk, openBroker, openPeers }: TransferPlace,
  link: Pick<Link, 'sendTransfer'>,
  late: () => void,
): Promise<NodeTransport | null> {
  switch (name) {
    case 'relay':
      return new RelayTransport({ connect: bulk, clock, random, late });
    case 'local': {
      const broker = await openBroker();
      const scope = broker && (await brokerScope(broker, clock));
      return broker && scope ? new LocalTransport(broker, scope, clock, late) : null;
    }
    case 'webrtc': {
      const page = await openPeers();
      const signal = (transfer: string, data: string) => link.sendTransfer({ type: 'signal', transfer, data });
      return page && new WebRtcTransport({ page, clock, signal, late });
    }
  }
}
