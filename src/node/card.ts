import type { Card } from '../protocol/messages.ts';
import type { Ranks } from './ranks.ts';
import type { NodeTransports } from './transfer/node-transports.ts';

const ALONE = { role: 'agg', names: [], localScope: null } satisfies Pick<
  NodeTransports,
  'role' | 'names' | 'localScope'
>;

/** What a node says of its engines on registration, and of its ways to other nodes. */
export function cardOf(
  { info, first, size }: Pick<Ranks, 'info' | 'first' | 'size'>,
  hashAlgo: Card['hashAlgo'],
  { role, names, localScope }: Pick<NodeTransports, 'role' | 'names' | 'localScope'> = ALONE,
): Card {
  const { vocabSize: _v, hiddenSize: _h, pools: _p, layers: _l, layerBlockBytes: _b, ...shared } = info;
  return { ...shared, role, dpRank: first, dpSize: size, hashAlgo, transports: names, localScope };
}
