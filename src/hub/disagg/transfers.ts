import type { Clock } from '../../protocol/clock.ts';
import type { GenerateRequest } from '../../protocol/generate.ts';
import { scopeOf } from '../../protocol/hash-scope.ts';
import type { HubMessage, NodeMessage, RemotePrefill } from '../../protocol/messages.ts';
import { GREEDY } from '../../protocol/sampling.ts';
import type { TransferOutcome, TransportName, Wanted } from '../../protocol/transfer.ts';

/** What nodes say of transfers. */
export type TransferMessage = Extract<
  NodeMessage,
  { type: 'transfer_open' | 'transfer_closed' | 'prefill_closed' | 'signal' }
>;
type Message<T extends TransferMessage['type']> = Extract<TransferMessage, { type: T }>;
export type PrefillClosed = Message<'prefill_closed'>;

/** A node as one end of a transfer; one object for each of its connections. */
export interface TransferEnd {
  readonly id: string;
  send(message: HubMessage): void;
}

/** How a transfer ended for the decode node: as it says, or its request was over before. */
export type Ending = TransferOutcome | { readonly kind: 'cancelled' };

export interface TransferOrder {
  readonly decode: TransferEnd;
  readonly prefill: TransferEnd;
  /** The rank of the prefill node that computes the prompt. */
  readonly prefillRank: number;
  /** In the order to try them; at least one. */
  readonly transports: readonly TransportName[];
  /** What the decode node is asked. */
  readonly generate: GenerateRequest;
  /** The decode node has opened its end, and the prefill node begins. */
  opened(): void;
  /** The prefill node says that it has done its part, or why not. */
  prefilled(closed: PrefillClosed): void;
  /** Told once. */
  ended(ending: Ending): void;
  /** Neither node has to do with it any more. Told once, last. */
  over(): void;
}

export interface Transfer {
  readonly id: string;
  readonly order: TransferOrder;
  /** null until the decode node has opened its end. */
  readonly transport: TransportName | null;
  readonly wanted: Wanted | null;
}

interface State extends Transfer {
  transport: TransportName | null;
  wanted: Wanted | null;
  /** cancelled: it was told to give up, and its last word is awaited. */
  decode: 'offered' | 'open' | 'cancelled' | 'over';
  /** signalled: it knows the transfer from a handshake alone. */
  prefill: 'unasked' | 'signalled' | 'asked' | 'over';
  signals: number;
  stopTimer: () => void;
}

export interface TransfersOptions {
  readonly clock: Clock;
  /** Longest time without progress, as the nodes are told; also how long a last word is awaited. */
  readonly timeoutMs: number;
  /** How long the decode node may try to open a channel of each transport. */
  readonly openMs: number;
  /** Longest that a transfer may take as a whole. */
  readonly maxMs: number;
  /** Chained hashes of all blocks of a prompt that can be handed over. */
  readonly hashes: (request: GenerateRequest) => readonly bigint[];
  /** A name that nobody can guess. */
  readonly newId: () => string;
}

/** What a channel of the relay may do with a node's frame. */
export type Passage =
  | { readonly kind: 'to'; readonly node: string }
  /** The transfer is over, or goes another way. */
  | { readonly kind: 'nobody' }
  /** It is between other nodes. */
  | { readonly kind: 'stranger' };

/** Messages of a WebRTC handshake that one transfer may take. */
const MAX_SIGNALS = 256;

/** The hand-overs of KV blocks that are going on, each between its two nodes alone (docs/protocol.md, R rules). */
export class Transfers {
  readonly #options: TransfersOptions;
  readonly #states = new Map<string, State>();

  constructor(options: TransfersOptions) {
    this.#options = options;
  }

  /** Oldest first. */
  active(): Iterable<Transfer> {
    return this.#states.values();
  }

  get size(): number {
    return this.#states.size;
  }

  /** A transfer begins; `prefill` is for the decode node's `generate`. */
  begin(order: TransferOrder): { transfer: Transfer; prefill: RemotePrefill } {
    const { newId, openMs, timeoutMs } = this.#options;
    const state: State = {
      id: newId(),
      order,
      transport: null,
      wanted: null,
      decode: 'offered',
      prefill: 'unasked',
      signals: 0,
      stopTimer: () => {},
    };
    this.#states.set(state.id, state);
    this.#within(state, timeoutMs + openMs * order.transports.length, 'the decode node opened no channel');
    const { id: transfer } = state;
    return {
      transfer: state,
      prefill: { transfer, node: order.prefill.id, transports: [...order.transports], timeoutMs },
    };
  }

  /** A node's word on a transfer. Returns which rule it broke, or null. Transfers that are over are nobody's concern. */
  receive(from: TransferEnd, message: TransferMessage): string | null {
    const state = this.#states.get(message.transfer);
    if (state === undefined) return null;
    const { decode, prefill } = state.order;
    const allowed =
      message.type === 'signal' ? [decode, prefill] : [message.type === 'prefill_closed' ? prefill : decode];
    if (!allowed.includes(from)) return `${message.type} of transfer ${message.transfer}, which is between other nodes`;
    switch (message.type) {
      case 'transfer_open':
        return this.#open(state, message);
      case 'transfer_closed':
        return this.#decodeClosed(state, message.outcome);
      case 'prefill_closed':
        return this.#prefillClosed(state, message);
      case 'signal':
        return this.#signal(state, from, message);
    }
  }

  /** The request needs the transfer no more, or its decode node is gone: the prefill node is told. */
  end(id: string, message: string): void {
    const state = this.#states.get(id);
    if (state === undefined || state.decode === 'over') return;
    state.decode = 'over';
    this.#stopPrefill(state, message);
    state.order.ended({ kind: 'cancelled' });
    this.#over(state);
  }

  /** The way between the nodes broke: both are told, and the decode node has the last word. */
  cancel(id: string, message: string): void {
    const state = this.#states.get(id);
    if (state === undefined) return;
    this.#stopPrefill(state, message);
    this.#stopDecode(state, message);
  }

  /** The connection of a node is gone, or its engine. */
  lost(end: TransferEnd): void {
    for (const state of [...this.#states.values()]) {
      if (state.order.decode === end) this.end(state.id, 'the decode node is gone');
      if (state.order.prefill !== end || state.prefill === 'over') continue;
      state.prefill = 'over';
      if (state.decode === 'over') this.#over(state);
      else this.#stopDecode(state, 'the prefill node is gone');
    }
  }

  /** A node's bulk socket is gone, and with it the way of its relayed transfers. */
  channelLost(node: string, message: string): void {
    for (const { id, order, transport, decode } of [...this.#states.values()]) {
      const ours = order.decode.id === node || order.prefill.id === node;
      if (ours && transport === 'relay' && decode === 'open') this.cancel(id, message);
    }
  }

  /** Where a relayed frame of `node` goes. */
  passage(id: string, node: string): Passage {
    const state = this.#states.get(id);
    if (state === undefined) return { kind: 'nobody' };
    const { decode, prefill } = state.order;
    if (node !== decode.id && node !== prefill.id) return { kind: 'stranger' };
    // After the decode node is done its last acknowledgement may still be on its way to the prefill node.
    const going = state.decode === 'open' || state.decode === 'over';
    if (!going || state.transport !== 'relay') return { kind: 'nobody' };
    return { kind: 'to', node: node === decode.id ? prefill.id : decode.id };
  }

  #open(state: State, { transport, wanted, credit }: Message<'transfer_open'>): string | null {
    const { order, id } = state;
    // It may cross with the word that the transfer is given up.
    if (state.decode === 'cancelled' || state.decode === 'over') return null;
    if (state.decode === 'open') return `transfer ${id} is opened twice`;
    if (!order.transports.includes(transport)) return `transfer ${id} is opened by ${transport}, which was not offered`;
    const wrong = this.#wrongWish(order.generate, wanted);
    if (wrong !== null) return `transfer ${id}: ${wrong}`;
    Object.assign(state, { transport, wanted, decode: 'open', prefill: 'asked' });
    this.#within(state, this.#options.maxMs, 'the transfer took too long');
    order.opened();
    const { timeoutMs } = this.#options;
    const generate = promptOnly(order.generate, id);
    const peer = order.decode.id;
    const { prefillRank: rank } = order;
    order.prefill.send({ type: 'prefill', transfer: id, rank, generate, peer, transport, wanted, credit, timeoutMs });
    return null;
  }

  /** All blocks from the first wanted one to the last that can be handed over, by their true hashes. */
  #wrongWish(generate: GenerateRequest, { firstBlock, hashes }: Wanted): string | null {
    const all = this.#options.hashes(generate);
    if (firstBlock + hashes.length !== all.length)
      return `blocks ${firstBlock} to ${firstBlock + hashes.length} are wanted of a prompt with ${all.length}`;
    const at = hashes.findIndex((hash, i) => hash !== all[firstBlock + i]);
    return at < 0 ? null : `the hash wanted for block ${firstBlock + at} is not that of the prompt`;
  }

  #decodeClosed(state: State, outcome: TransferOutcome): string | null {
    const { id } = state;
    if (state.decode === 'over') return `transfer ${id} is closed twice`;
    if (outcome.kind === 'done') {
      if (state.wanted === null) return `transfer ${id} is done before it was open`;
      if (outcome.transport !== state.transport)
        return `transfer ${id} is done by ${outcome.transport}, not ${state.transport}`;
      const { length } = state.wanted.hashes;
      if (outcome.blocks !== length) return `transfer ${id} is done with ${outcome.blocks} blocks of ${length}`;
    }
    state.decode = 'over';
    if (outcome.kind === 'local')
      this.#stopPrefill(state, `the decode node computes the prompt itself: ${outcome.message}`);
    state.order.ended(outcome);
    if (state.prefill === 'asked') this.#within(state, this.#options.timeoutMs, 'the transfer is done');
    else this.#over(state);
    return null;
  }

  #prefillClosed(state: State, closed: PrefillClosed): string | null {
    const { id, wanted } = state;
    if (state.prefill !== 'asked' || wanted === null) {
      // It may cross with the word that the transfer is given up.
      return state.prefill !== 'unasked' ? null : `prefill_closed of transfer ${id}, for which no prefill was asked`;
    }
    if (closed.blocks > wanted.hashes.length)
      return `transfer ${id}: ${closed.blocks} blocks were sent of ${wanted.hashes.length}`;
    state.prefill = 'over';
    state.order.prefilled(closed);
    if (state.decode === 'over') this.#over(state);
    else if (closed.failed !== null) this.#stopDecode(state, closed.failed);
    return null;
  }

  #signal(state: State, from: TransferEnd, { data, transfer }: Message<'signal'>): string | null {
    const { decode, prefill, transports } = state.order;
    if (!transports.includes('webrtc')) return `signal of transfer ${transfer}, which goes not by webrtc`;
    state.signals += 1;
    if (state.signals > MAX_SIGNALS) return `transfer ${transfer} takes more than ${MAX_SIGNALS} signals`;
    if (state.decode === 'over' || state.decode === 'cancelled' || state.prefill === 'over') return null;
    if (state.prefill === 'unasked') state.prefill = 'signalled';
    (from === decode ? prefill : decode).send({ type: 'signal', transfer, data });
    return null;
  }

  /** The decode node computes the prompt itself, which it still has to say. */
  #stopDecode(state: State, message: string): void {
    if (state.decode === 'over' || state.decode === 'cancelled') return;
    state.decode = 'cancelled';
    this.#within(state, this.#options.timeoutMs, message);
    state.order.decode.send({ type: 'transfer_cancel', transfer: state.id, message: cut(message) });
  }

  #stopPrefill(state: State, message: string): void {
    const knows = state.prefill === 'asked' || state.prefill === 'signalled';
    state.prefill = 'over';
    if (knows) state.order.prefill.send({ type: 'transfer_cancel', transfer: state.id, message: cut(message) });
  }

  /** Bounds the time of what is awaited now. */
  #within(state: State, ms: number, message: string): void {
    state.stopTimer();
    state.stopTimer = this.#options.clock.after(ms, () => {
      this.#stopPrefill(state, message);
      if (state.decode === 'offered' || state.decode === 'open') {
        this.#stopDecode(state, message);
        return;
      }
      if (state.decode === 'cancelled') {
        state.decode = 'over';
        const transport = state.transport === null ? {} : { transport: state.transport };
        state.order.ended({ kind: 'local', why: 'stalled', message, ...transport });
      }
      this.#over(state);
    });
  }

  #over(state: State): void {
    // Sending may close a socket, and with it end this very transfer.
    if (!this.#states.delete(state.id)) return;
    state.stopTimer();
    state.order.over();
  }
}

/** The prompt alone, as a request of its own; what is sampled after it is thrown away. */
export function promptOnly(of: GenerateRequest, request: string): GenerateRequest {
  return {
    request,
    prompt: of.prompt,
    choices: [{ choice: 0, generated: [] }],
    sampling: { ...GREEDY, maxTokens: 1 },
    ...scopeOf(of),
  };
}

/** As long as a message may be. */
function cut(message: string): string {
  return message.slice(0, 4096);
}
