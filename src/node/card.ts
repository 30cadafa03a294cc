import type { EngineInfo } from '../engine/api.ts';
import type { Card } from '../protocol/messages.ts';
import type { NodeTransports } from './transfer/node-transports.ts';

const ALONE = { role: 'agg', names: [], localScope: null } satisfies Pick<
  NodeTransports,
  'role' | 'names' | 'localScope'
>;

/** What a node says of its engine on registration, and of its ways to other nodes. */
export function cardOf(
  info: EngineInfo,
  hashAlgo: Card['hashAlgo'],
  { role, names, localScope }: Pick<NodeTransports, 'role' | 'names' | 'localScope'> = ALONE,
): Card {
  const { vocabSize: _v, layers: _l, layerBlockBytes: _b, ...shared } = info;
  return { ...shared, role, dpRank: 0, hashAlgo, transports: names, localScope };
}
