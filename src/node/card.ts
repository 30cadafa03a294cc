import type { EngineInfo } from '../engine/api.ts';
import type { Card } from '../protocol/messages.ts';
import type { NodeTransports } from './transfer/node-transports.ts';

/** What a node says of its engine on registration, and of its ways to other nodes. */
export function cardOf(info: EngineInfo, hashAlgo: Card['hashAlgo']): Card {
  const { vocabSize: _, ...shared } = info;
  return { ...shared, role: 'agg', dpRank: 0, hashAlgo, transports: [], localScope: null };
}
