import { type NodeTransport, NodeTransports } from '../../src/node/transfer/node-transports.ts';
import type { OpenTransfers } from '../../src/node/transfer/open-transfers.ts';
import { Transfers } from '../../src/node/transfer/transfers.ts';
import type { Clock } from '../../src/protocol/clock.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import type { Role } from '../../src/protocol/messages.ts';
import { createPayloadHash } from '../../src/protocol/transfer-frame.ts';

const [hasher, payloadHash] = await Promise.all([createBlockHasher('xxh3'), createPayloadHash()]);

/** Transfers of a test's node: of this role, over these transports. */
export function transfersWith(clock: Clock, role: Role = 'agg', all: readonly NodeTransport[] = []): OpenTransfers {
  return async (_welcome, link, changed) => {
    const transports = new NodeTransports(role);
    for (const each of all) transports.add(each);
    return new Transfers({ link, clock, transports, hasher, payloadHash, changed });
  };
}
