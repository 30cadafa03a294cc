import type { Match } from '../../../../src/hub/router/kv-index.ts';
import type { GenerateRequest } from '../../../../src/protocol/generate.ts';
import type { Card } from '../../../../src/protocol/messages.ts';
import { GREEDY } from '../../../../src/protocol/sampling.ts';

/** A candidate; blocks of four tokens. */
export function node(id: string, { software = false, maxNumSeqs = 32, totalBlocks = 1000 } = {}) {
  const adapter = { vendor: '', architecture: '', device: '', description: '', software, features: [] };
  const card: Card = {
    model: 'm',
    fingerprint: 'f',
    numericsId: 'n',
    role: 'agg',
    dpRank: 0,
    dpSize: 1,
    transports: [],
    localScope: null,
    adapter,
    blockSize: 4,
    totalBlocks,
    maxModelLen: 4096,
    maxNumSeqs,
    maxNumBatchedTokens: 64,
    kvCacheDtype: 'f32',
    hashAlgo: 'xxh3',
  };
  return { id, rank: 0, card };
}

let requests = 0;

/** A request with an id of its own. */
export function request(prompt: number[] = [1], choices = 1, cacheSalt?: string): GenerateRequest {
  requests += 1;
  return {
    request: `r${requests}`,
    prompt,
    choices: Array.from({ length: choices }, (_, choice) => ({ choice, generated: [] })),
    sampling: GREEDY,
    ...(cacheSalt === undefined ? {} : { cacheSalt }),
  };
}

/** `blocks` times four tokens, all of them `token`. */
export function prompt(token: number, blocks: number): number[] {
  return Array.from({ length: 4 * blocks }, () => token);
}

/** How many leading blocks of a prompt rank 0 of a node has. */
export function overlapOf({ holders }: Match, id: string): number {
  return holders.find(({ place }) => place.id === id && place.rank === 0)?.blocks ?? 0;
}
