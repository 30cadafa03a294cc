import type { Engine, KvReservation } from '../../engine/api.ts';
import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest } from '../../protocol/generate.ts';
import type { NodeMessage, RemotePrefill } from '../../protocol/messages.ts';
import type { TransferOutcome, TransportName } from '../../protocol/transfer.ts';
import type { PayloadHash } from '../../protocol/transfer-frame.ts';
import type { NodeTransports } from './node-transports.ts';
import { type KvFacts, type LocalReason, Receiver } from './receiver.ts';
import type { Channel } from './transport.ts';

export interface FetchOptions {
  readonly request: GenerateRequest;
  readonly remote: RemotePrefill;
  readonly engine: Pick<Engine, 'reserve'>;
  readonly facts: KvFacts;
  readonly transports: NodeTransports;
  readonly clock: Clock;
  readonly hash: PayloadHash;
  /** This side's end is open, and the prefill node may begin. */
  readonly opened: (
    open: Omit<Extract<NodeMessage, { type: 'transfer_open' }>, 'type' | 'epoch' | 'transfer' | 'wanted'> & {
      readonly wanted: { readonly firstBlock: number; readonly hashes: bigint[] };
    },
  ) => void;
  /** Last call, once. */
  readonly over: (outcome: TransferOutcome) => void;
}

/** A transport that does not open in this time is passed over; never longer than the hub's bound. */
const OPEN_MS = 3000;
/** Frames on their way: with frames of about 1 MiB, a bound of the memory that waits here. */
const CREDIT = 8;
const NOTHING_RESERVED = {
  cached: 'All full blocks of the prompt are in the cache of the decode node.',
  no_room: 'The decode node has too few free blocks for the prompt.',
};

/** Decode side, from the reservation of blocks to the end: opens a channel by the first way that opens, then receives. */
export class Fetch {
  private reservation: KvReservation | null = null;
  private receiver: Receiver | null = null;
  private readonly opening = new AbortController();
  private ended = false;

  constructor(private readonly options: FetchOptions) {}

  get transfer(): string {
    return this.options.remote.transfer;
  }

  start(): void {
    const { engine, request } = this.options;
    try {
      const reserved = engine.reserve(request);
      if (typeof reserved === 'string') {
        this.end({ kind: 'local', why: reserved, message: NOTHING_RESERVED[reserved] });
        return;
      }
      this.reservation = reserved;
      void this.connect(reserved);
    } catch (error) {
      // Asked to compute it, the engine says the same, and the client hears of it.
      this.end({ kind: 'local', why: 'refused', message: wordsOf(error).slice(0, 4096) });
    }
  }

  /** Gives up; the outcome is `local`. */
  stop(why: LocalReason, message: string): void {
    if (this.receiver) this.receiver.stop(why, message);
    else this.end({ kind: 'local', why, message });
  }

  private async connect(reservation: KvReservation): Promise<void> {
    const failures: string[] = [];
    for (const name of this.options.remote.transports) {
      if (this.ended) return;
      try {
        const channel = await this.open(name);
        if (this.ended) channel.close();
        else this.receive(name, channel, reservation);
        return;
      } catch (error) {
        failures.push(`${name}: ${wordsOf(error)}`);
      }
    }
    this.end({ kind: 'local', why: 'no_transport', message: failures.join(' ').slice(0, 4096) });
  }

  private async open(name: TransportName): Promise<Channel> {
    const { clock, remote, transports } = this.options;
    const abort = new AbortController();
    const ms = Math.min(OPEN_MS, remote.timeoutMs);
    const stop = clock.after(ms, () => abort.abort(new Error(`No way to the prefill node within ${ms} ms.`)));
    const ended = () => abort.abort(new Error('The transfer is over.'));
    this.opening.signal.addEventListener('abort', ended);
    try {
      return await transports.get(name).open({ transfer: remote.transfer, peer: remote.node }, abort.signal);
    } finally {
      stop();
      this.opening.signal.removeEventListener('abort', ended);
    }
  }

  private receive(transport: TransportName, channel: Channel, reservation: KvReservation): void {
    const { remote, facts, clock, hash, transports, opened } = this.options;
    this.receiver = new Receiver({
      transfer: remote.transfer,
      transport,
      channel,
      facts,
      reservation,
      credit: CREDIT,
      timeoutMs: remote.timeoutMs,
      clock,
      hash,
      late: transports.late,
      over: (outcome) => {
        this.reservation = null;
        this.end(outcome);
      },
    });
    const { firstBlock, hashes } = reservation;
    opened({ transport, wanted: { firstBlock, hashes: [...hashes] }, credit: CREDIT });
  }

  private end(outcome: TransferOutcome): void {
    if (this.ended) return;
    this.ended = true;
    this.opening.abort();
    this.reservation?.abort();
    this.options.over(outcome);
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
