import type { EngineInfo } from '../engine/api.ts';
import type { Card } from '../protocol/messages.ts';
import type { NodeTransports } from './transfer/node-transports.ts';

/** What a node says of its engine on registration, and of its ways to other nodes. */
export function cardOf(
  info: EngineInfo,
  hashAlgo: Card['hashAlgo'],
  { role, names, localScope }: Pick<NodeTransports, 'role' | 'names' | 'localScope'>,
): Card {
  const { vocabSize: _v, layers: _l, layerBlockBytes: _b, ...shared } = info;
  return { ...shared, role, dpRank: 0, hashAlgo, transports: names, localScope };
}
