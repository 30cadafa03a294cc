import type { KvFacts } from '../../../../src/node/transfer/receiver.ts';
import { Receiver } from '../../../../src/node/transfer/receiver.ts';
import { type PrefillClosed, type PrefillOrder, Sender } from '../../../../src/node/transfer/sender.ts';
import type { Channel } from '../../../../src/node/transfer/transport.ts';
import { GREEDY } from '../../../../src/protocol/sampling.ts';
import type { TransferOutcome } from '../../../../src/protocol/transfer.ts';
import { createPayloadHash } from '../../../../src/protocol/transfer-frame.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { FACTS, PrefillEngine, Reservation } from './support.ts';

export const TRANSFER = 'transfer-1';
export const TIMEOUT_MS = 5000;
const hash = await createPayloadHash();

export interface PairOptions {
  readonly facts?: KvFacts;
  readonly decodeFacts?: KvFacts;
  readonly blocks?: number;
  readonly firstBlock?: number;
  readonly credit?: number;
  readonly decode: Channel;
  readonly prefill: Promise<Channel>;
}

/** Hash of the n-th block of the prompt that the tests transfer. */
export const blockHash = (block: number) => BigInt(block + 1) * 1_000_003n;

/** Both sides of one transfer, over the channels of a test. */
export function transferPair({
  facts = FACTS,
  decodeFacts = facts,
  blocks = 6,
  firstBlock = 0,
  credit = 4,
  decode,
  prefill,
}: PairOptions) {
  const clock = new FakeClock();
  const hashes = Array.from({ length: firstBlock + blocks }, (_, block) => blockHash(block));
  const wanted = { firstBlock, hashes: hashes.slice(firstBlock) };
  const reservation = new Reservation(firstBlock, wanted.hashes, decodeFacts);
  const engine = new PrefillEngine(facts);
  const outcomes: TransferOutcome[] = [];
  const closed: PrefillClosed[] = [];
  const seen = { late: 0 };
  const receiver = new Receiver({
    transfer: TRANSFER,
    transport: 'relay',
    channel: decode,
    facts: decodeFacts,
    reservation,
    credit,
    timeoutMs: TIMEOUT_MS,
    clock,
    hash,
    late: () => seen.late++,
    over: (outcome) => outcomes.push(outcome),
  });
  const order: PrefillOrder = {
    type: 'prefill',
    rank: 0,
    transfer: TRANSFER,
    generate: { request: TRANSFER, prompt: [1], choices: [{ choice: 0, generated: [] }], sampling: GREEDY },
    peer: 'node-d',
    transport: 'relay',
    wanted,
    credit,
    timeoutMs: TIMEOUT_MS,
  };
  const sender = new Sender({
    order,
    engine,
    facts,
    clock,
    hash,
    hashes,
    connect: () => prefill,
    over: (ended) => closed.push(ended),
  });
  sender.start();
  const computed = (count: number, done = count === firstBlock + blocks) =>
    sender.prefilled({ blocks: count, done, computedTokens: count * 16, cachedTokens: 0 });
  return {
    clock,
    reservation,
    engine,
    outcomes,
    closed,
    seen,
    receiver,
    sender,
    computed,
    blocks: firstBlock + blocks,
  };
}
