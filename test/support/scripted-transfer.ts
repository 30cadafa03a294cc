import { createBlockHasher } from '../../src/protocol/hashes.ts';
import type { NodeMessage, RemotePrefill } from '../../src/protocol/messages.ts';
import type { TransferOutcome, TransportName, Wanted } from '../../src/protocol/transfer.ts';
import type { HubMessageOf, ScriptedNode } from './scripted-node.ts';

type Outcome<K extends TransferOutcome['kind']> = Extract<TransferOutcome, { kind: K }>;

const hasher = await createBlockHasher('xxh3');
/** Tokens of a block in the hub's configuration. */
const BLOCK = 16;
/** Bytes that a scripted block counts. */
export const BLOCK_BYTES = 1024;

/** Blocks `firstBlock` and following that a decode node wants of a prompt. */
export function wantedOf(prompt: readonly number[], firstBlock = 0): Wanted {
  const hashes: bigint[] = [];
  let parent: bigint | null = null;
  for (let end = BLOCK; end < prompt.length; end += BLOCK) {
    const tokens = prompt.slice(end - BLOCK, end);
    parent = hasher.blockHash(parent, { tokens, tokensHash: hasher.tokensHash(tokens) });
    hashes.push(parent);
  }
  return { firstBlock, hashes: hashes.slice(firstBlock) };
}

/** The decode node's words on the transfer that came with a `generate`, as the test chooses them. */
export class DecodeEnd {
  constructor(
    readonly node: ScriptedNode,
    readonly message: HubMessageOf<'generate'>,
  ) {}

  get offer(): RemotePrefill {
    if (this.message.prefill === undefined) throw new Error('no prefill was offered');
    return this.message.prefill;
  }

  get blocks(): number {
    return wantedOf(this.message.generate.prompt).hashes.length;
  }

  open(change: Partial<Extract<NodeMessage, { type: 'transfer_open' }>> = {}): void {
    const { transfer, transports } = this.offer;
    this.node.send({
      type: 'transfer_open',
      epoch: this.#epoch,
      transfer,
      transport: transports[0] as TransportName,
      wanted: wantedOf(this.message.generate.prompt),
      credit: 4,
      ...change,
    });
  }

  done(change: Partial<Outcome<'done'>> = {}): void {
    const { prompt } = this.message.generate;
    this.close({
      kind: 'done',
      transport: this.offer.transports[0] as TransportName,
      ...{ blocks: this.blocks, bytes: this.blocks * BLOCK_BYTES },
      ...{ computedTokens: prompt.length, cachedTokens: 0, milliseconds: 0 },
      ...change,
    });
  }

  local(why: Outcome<'local'>['why'], message = 'as the test wants it'): void {
    this.close({ kind: 'local', why, message });
  }

  close(outcome: TransferOutcome): void {
    this.node.send({ type: 'transfer_closed', epoch: this.#epoch, transfer: this.offer.transfer, outcome });
  }

  get #epoch(): number {
    return this.node.welcome?.epoch ?? 0;
  }
}

/** The prefill node says that it has done its part. */
export function closePrefill(
  node: ScriptedNode,
  { transfer, generate, wanted }: HubMessageOf<'prefill'>,
  change: Partial<Extract<NodeMessage, { type: 'prefill_closed' }>> = {},
): void {
  const blocks = wanted.hashes.length;
  const told = { computedTokens: generate.prompt.length, blocks, bytes: blocks * BLOCK_BYTES, failed: null };
  node.send({ type: 'prefill_closed', epoch: node.welcome?.epoch ?? 0, transfer, ...told, ...change });
}
