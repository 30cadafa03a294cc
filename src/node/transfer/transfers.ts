import type { Engine, EngineError, PrefillProgress } from '../../engine/api.ts';
import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest } from '../../protocol/generate.ts';
import type { BlockHasher } from '../../protocol/hashes.ts';
import type { HubMessage, RemotePrefill } from '../../protocol/messages.ts';
import type { TransferOutcome } from '../../protocol/transfer.ts';
import type { PayloadHash } from '../../protocol/transfer-frame.ts';
import type { Link } from '../link.ts';
import type { Ranks } from '../ranks.ts';
import type { HandedOver } from '../snapshot.ts';
import { Fetch } from './fetch.ts';
import type { NodeTransports } from './node-transports.ts';
import type { KvFacts } from './receiver.ts';
import { type PrefillClosed, type PrefillOrder, Sender } from './sender.ts';

export interface TransfersOptions {
  readonly link: Pick<Link, 'sendTransfer'>;
  readonly clock: Clock;
  readonly transports: NodeTransports;
  readonly hasher: BlockHasher;
  readonly payloadHash: PayloadHash;
  /** Called after a transfer came or went. */
  readonly changed: () => void;
}

/** KV transfers that a node takes part in, on either side (rules X1 and following). */
export class Transfers {
  /** By request: prompts that wait for blocks of another node. */
  private readonly fetches = new Map<string, Fetch>();
  /** By transfer: prompts computed for other nodes. */
  private readonly senders = new Map<string, Sender>();
  private engines: Pick<Ranks, 'at'> | null = null;
  private taken = 0;
  private given = 0;

  constructor(private readonly options: TransfersOptions) {}

  get transports(): NodeTransports {
    return this.options.transports;
  }

  get size(): number {
    return this.fetches.size + this.senders.size;
  }

  /** null where the role is `agg`. */
  get handedOver(): HandedOver | null {
    const { role, lateFrames } = this.transports;
    const { size: active, taken, given } = this;
    return role === 'agg' ? null : { active, taken, given, lateFrames };
  }

  /** null: the engines are gone, and what they held with them. */
  use(engines: Pick<Ranks, 'at'> | null): void {
    if (engines === null) this.dropAll('The engine of this node ended.');
    this.engines = engines;
  }

  /** Decode side: gets the prompt's blocks for `engine`, or does not; then calls `go` in either case, unless `stop` came first. */
  fetch(engine: Engine, request: GenerateRequest, remote: RemotePrefill, go: () => void): void {
    const { link, clock, transports, payloadHash, changed } = this.options;
    const fetch: Fetch = new Fetch({
      request,
      remote,
      engine,
      facts: factsOf(engine),
      transports,
      clock,
      hash: payloadHash,
      opened: (open) => link.sendTransfer({ type: 'transfer_open', transfer: remote.transfer, ...open }),
      over: (outcome: TransferOutcome) => {
        if (outcome.kind === 'done') this.taken += outcome.blocks;
        if (this.fetches.get(request.request) === fetch) {
          this.fetches.delete(request.request);
          go();
        }
        link.sendTransfer({ type: 'transfer_closed', transfer: remote.transfer, outcome });
        changed();
      },
    });
    this.fetches.set(request.request, fetch);
    fetch.start();
    changed();
  }

  /** The request is not wanted any more: its transfer ends, and `go` is not called. */
  stop(request: string): void {
    const fetch = this.fetches.get(request);
    this.fetches.delete(request);
    fetch?.stop('closed', 'The request was cancelled.');
  }

  /** Prefill side. `closed` is why the node takes nothing new; null while it does. */
  prefill(order: PrefillOrder, closed: string | null): void {
    const { transfer } = order;
    if (this.senders.has(transfer)) return;
    const engine = this.engines?.at(order.rank);
    if (!engine || closed !== null) {
      const failed = closed ?? `This node has no engine of rank ${order.rank} now.`;
      this.tellClosed(transfer, { computedTokens: 0, blocks: 0, bytes: 0, failed });
      return;
    }
    const { clock, transports, payloadHash, changed } = this.options;
    const sender = new Sender({
      order,
      engine,
      facts: factsOf(engine),
      hashes: this.hashesOf(order.generate, engine.info.blockSize),
      clock,
      hash: payloadHash,
      connect: (signal) => transports.get(order.transport).accept({ transfer, peer: order.peer }, signal),
      over: (ended) => {
        this.senders.delete(transfer);
        this.given += ended.blocks;
        this.tellClosed(transfer, ended);
        changed();
      },
    });
    this.senders.set(transfer, sender);
    sender.start();
    changed();
  }

  /** The engine came further with a prompt. */
  prefilled(transfer: string, progress: PrefillProgress): void {
    this.senders.get(transfer)?.prefilled(progress);
  }

  /** The engine gave a prompt up. Returns whether it was one of another node. */
  failed(transfer: string, error: EngineError): boolean {
    const sender = this.senders.get(transfer);
    sender?.stop(error.message);
    return sender !== undefined;
  }

  /** The hub's three messages of transfers. */
  told(message: Extract<HubMessage, { type: 'prefill' | 'transfer_cancel' | 'signal' }>, closed: string | null): void {
    switch (message.type) {
      case 'prefill':
        this.prefill(message, closed);
        break;
      case 'transfer_cancel':
        this.senders.get(message.transfer)?.cancel(message.message);
        for (const fetch of this.fetches.values())
          if (fetch.transfer === message.transfer) fetch.stop('prefill_failed', message.message);
        break;
      case 'signal':
        this.options.transports.signalled(message.transfer, message.data);
        break;
    }
  }

  /** Ends all of them; nobody goes on with what waited. */
  dropAll(message: string): void {
    for (const request of [...this.fetches.keys()]) this.stop(request);
    for (const sender of [...this.senders.values()]) sender.stop(message);
  }

  /** The node leaves for good. */
  close(): void {
    this.dropAll('The node leaves.');
    this.options.transports.close();
  }

  private hashesOf(request: GenerateRequest, blockSize: number): bigint[] {
    const { prompt } = request;
    const { hasher } = this.options;
    const hashes: bigint[] = [];
    for (let at = 0; at + blockSize <= prompt.length; at += blockSize) {
      const tokens = prompt.slice(at, at + blockSize);
      const block = { tokens, tokensHash: hasher.tokensHash(tokens, request) };
      hashes.push(hasher.blockHash(hashes.at(-1) ?? null, block, request));
    }
    return hashes;
  }

  private tellClosed(transfer: string, closed: PrefillClosed): void {
    this.options.link.sendTransfer({ type: 'prefill_closed', transfer, ...closed });
  }
}

function factsOf({ info }: Engine): KvFacts {
  const { fingerprint, kvCacheDtype, layers, layerBlockBytes } = info;
  return { fingerprint, kvCacheDtype, layers, layerBlockBytes };
}
