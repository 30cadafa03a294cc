import { type BlockHasher, createBlockHasher } from '../protocol/hashes.ts';
import type { EngineOffer } from './engine-offer.ts';

/** What the first block's hash begins with; all nodes of a hub have the same. */
export function hashSeedOf({ options }: Pick<EngineOffer, 'options'>): string {
  return options['prefix-caching-hash-seed'] ?? '0';
}

/** The hashes that the hub gave its nodes. */
export function blockHasherOf(offer: Pick<EngineOffer, 'options' | 'hashAlgo'>): Promise<BlockHasher> {
  return createBlockHasher(offer.hashAlgo, hashSeedOf(offer));
}
