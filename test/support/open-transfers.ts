import { blockHasherOf, hashSeedOf } from '../../src/node/block-hasher.ts';
import { type NodeTransport, NodeTransports } from '../../src/node/transfer/node-transports.ts';
import type { OpenTransfers } from '../../src/node/transfer/open-transfers.ts';
import { Transfers } from '../../src/node/transfer/transfers.ts';
import type { Clock } from '../../src/protocol/clock.ts';
import { createBlockHasher } from '../../src/protocol/hashes.ts';
import type { Role } from '../../src/protocol/messages.ts';
import { createPayloadHash } from '../../src/protocol/transfer-frame.ts';

const payloadHash = await createPayloadHash();
/** Made beforehand, so that a node starts without waiting for them. */
const hashers = { xxh3: await createBlockHasher('xxh3'), sha256: await createBlockHasher('sha256') };

/** Transfers of a test's node: of this role, over these transports. */
export function transfersWith(clock: Clock, role: Role = 'agg', all: readonly NodeTransport[] = []): OpenTransfers {
  return async (welcome, link, changed) => {
    const hasher = hashSeedOf(welcome) === '0' ? hashers[welcome.hashAlgo] : await blockHasherOf(welcome);
    const transports = new NodeTransports(role);
    for (const each of all) transports.add(each);
    return new Transfers({ link, clock, transports, hasher, payloadHash, changed });
  };
}
