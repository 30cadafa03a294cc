import type { EngineInfo } from '../engine/api.ts';
import type { Card } from '../protocol/messages.ts';

/** What a node says of its engine on registration. One engine a node, which computes prompts and answers alike. */
export function cardOf(info: EngineInfo, hashAlgo: Card['hashAlgo']): Card {
  const { vocabSize: _, ...shared } = info;
  return { ...shared, role: 'agg', dpRank: 0, hashAlgo, transports: [], localScope: null };
}
