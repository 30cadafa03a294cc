import type { Logger } from 'pino';
import { adapterName } from '../protocol/adapter-name.ts';
import type { Clock } from '../protocol/clock.ts';
import { CLOSE, type CloseCode, closeReason } from '../protocol/close-codes.ts';
import {
  type Card,
  type ErrorCode,
  encode,
  type HubMessage,
  type Load,
  type NodeMessage,
  type NodeStage,
} from '../protocol/messages.ts';
import type { HubLimits } from './config.ts';
import type { TransferMessage, Transfers } from './disagg/transfers.ts';
import { hasRank } from './has-rank.ts';
import { Heartbeat } from './heartbeat.ts';
import { NodeLoras } from './lora/node-loras.ts';
import { parseMessage } from './parse-message.ts';
import type { KvIndex } from './router/kv-index.ts';
import type { KvRank, KvVerdict } from './router/kv-rank.ts';
import { TokenBucket } from './token-bucket.ts';
import type { AttemptFrame } from './token-log.ts';

/** The four things that a hub needs of a WebSocket. */
export interface Wire {
  send(text: string): void;
  close(code: number, reason: string): void;
  /** Written but not yet taken by the network, bytes. */
  readonly bufferedAmount: number;
}

export type Hello = Extract<NodeMessage, { type: 'hello' }>;
export type Failure = Extract<NodeMessage, { type: 'failed' }>;
export type Welcome = Extract<HubMessage, { type: 'welcome' }>;

/** Why the hub will not have a node; becomes an `error` message and a close code. */
export interface Refusal {
  readonly close: CloseCode;
  readonly code: ErrorCode;
  readonly message: string;
}

/** Who may join, and as whom. */
export interface NodeDesk {
  greet(hello: Hello, socket: NodeSocket): Welcome | Refusal;
  /** null = the card fits the model that was offered. */
  accept(card: Card, socket: NodeSocket): Refusal | null;
  changed(socket: NodeSocket): void;
  /** A rank of a node told its load. */
  loaded(socket: NodeSocket, load: Load): void;
  left(socket: NodeSocket): void;
}

/** Who waits for the tokens. */
export interface FrameSink {
  tokens(socket: NodeSocket, frames: readonly AttemptFrame[]): void;
  failed(socket: NodeSocket, failure: Failure): void;
  /** The node computes nothing any more of what it was given. */
  lost(socket: NodeSocket, reason: string): void;
}

/**
 * opening: no `hello` yet. greeted: has an id, loads its model. ready: registered, takes requests.
 * draining: takes no more, finishes what it has. closed: gone.
 */
export type SocketState = 'opening' | 'greeted' | 'ready' | 'draining' | 'closed';

export interface NodeSocketOptions {
  readonly wire: Wire;
  readonly desk: NodeDesk;
  readonly sink: FrameSink;
  /** Who hears what the node says of KV transfers. */
  readonly transfers: Pick<Transfers, 'receive'>;
  /** Where the blocks of the node's prefix caches are written down. */
  readonly index: Pick<KvIndex, 'open' | 'close'>;
  readonly clock: Clock;
  readonly limits: HubLimits;
  readonly log: Logger;
}

/** Before `hello` nobody is known; a stranger's first message is small. */
const MAX_HELLO_CHARS = 64 << 10;

/** One node's socket: the hub's side of the protocol, from `hello` to the end (docs/protocol.md). */
export class NodeSocket {
  state: SocketState = 'opening';
  id = '';
  epoch = 0;
  agent = '';
  stage: NodeStage = 'joining';
  detail = '';
  loadedBytes = 0;
  totalBytes = 0;
  joinedAt = 0;
  /** Served name of the offered model. */
  model = '';
  card: Card | null = null;
  /** Why its health check failed; null while it is well. An ill node takes no requests. */
  ill: string | null = null;
  /** It shall sleep, and takes no new requests; what it has may end first. */
  resting = false;
  /** Of each data-parallel rank, as are the prefix caches. */
  readonly loads = new Map<number, Load>();
  readonly kv = new Map<number, KvRank>();
  readonly loras = new NodeLoras();

  readonly #options: NodeSocketOptions;
  readonly #messages: TokenBucket;
  readonly #bytes: TokenBucket;
  readonly #stopHelloTimer: () => void;
  readonly #heartbeat: Heartbeat;
  /** The node's own last word on why it goes; a close frame has room for its beginning only. */
  #failure: string | null = null;

  constructor(options: NodeSocketOptions) {
    const { clock, limits } = options;
    this.#options = options;
    this.#messages = new TokenBucket(limits.messagesPerSecond, clock);
    this.#bytes = new TokenBucket(limits.bytesPerSecond, clock);
    this.#heartbeat = new Heartbeat({
      clock,
      ms: limits.pingMs,
      ping: (nonce) => this.send({ type: 'ping', nonce }),
      unread: () => options.wire.bufferedAmount,
      dead: (unanswered) =>
        this.refuse({ close: CLOSE.timeout, code: 'protocol', message: `${unanswered} pings without an answer` }),
    });
    this.#stopHelloTimer = clock.after(limits.helloMs, () =>
      this.refuse({ close: CLOSE.timeout, code: 'protocol', message: `no hello within ${limits.helloMs} ms` }),
    );
  }

  /** One text message of the node. Never throws: a bad message closes the socket. */
  receive(text: string): void {
    if (this.state === 'closed') return;
    if (!this.#messages.take(1) || !this.#bytes.take(text.length)) {
      this.refuse({
        close: CLOSE.flood,
        code: 'overloaded',
        message: 'more messages or bytes than a node may send',
      });
      return;
    }
    if (this.state === 'opening' && text.length > MAX_HELLO_CHARS) {
      this.#broken('a hello of more than 64 KiB');
      return;
    }
    const parsed = parseMessage(text);
    if (parsed.ok) this.#handle(parsed.message);
    else this.#broken(parsed.why);
  }

  /** The other side (or the network) closed; also called once after `refuse`. */
  closed(reason: string): void {
    if (this.state === 'closed') return;
    this.#leave(this.#failure ?? reason);
  }

  send(message: HubMessage): void {
    if (this.state === 'closed') return;
    const { wire, limits } = this.#options;
    if (wire.bufferedAmount > limits.maxBufferedBytes) {
      this.end(CLOSE.slowReader, `the node does not read: ${wire.bufferedAmount} bytes wait for it`);
    } else {
      wire.send(encode(message));
    }
  }

  /** Bytes that may be written to it before it counts as one that does not read. */
  get room(): number {
    const { wire, limits } = this.#options;
    return limits.maxBufferedBytes - wire.bufferedAmount;
  }

  /** Steps that a rank says to have computed. */
  steps(rank: number): number {
    return this.loads.get(rank)?.counters.steps ?? 0;
  }

  /** Whether any rank says to have sequences. */
  get busy(): boolean {
    for (const { running, waiting } of this.loads.values()) if (running + waiting > 0) return true;
    return false;
  }

  /** The outcome of a health check (rule H2). */
  setIll(ill: string | null): void {
    this.ill = ill;
    this.#options.desk.changed(this);
  }

  setResting(resting: boolean): void {
    this.resting = resting;
    this.#options.desk.changed(this);
  }

  /** Says why, and closes. */
  refuse({ close, code, message }: Refusal): void {
    if (this.state === 'closed') return;
    this.#options.log.warn({ node: this.id, agent: this.agent, code }, `a node is refused: ${message}`);
    this.#options.wire.send(encode({ type: 'error', code, message: message.slice(0, 4096) }));
    this.end(close, message);
  }

  /** Closes without an `error` message: the node did nothing wrong, or would not read it. */
  end(code: CloseCode, reason: string): void {
    if (this.state === 'closed') return;
    this.#options.wire.close(code, closeReason(reason));
    this.#leave(reason);
  }

  #leave(reason: string): void {
    const greeted = this.state !== 'opening';
    this.state = 'closed';
    this.detail = reason;
    this.#stopHelloTimer();
    this.#heartbeat.stop();
    if (!greeted) return;
    this.#forgetRanks();
    this.#options.log.info({ node: this.id }, `a node left: ${reason}`);
    this.#options.desk.left(this);
    this.#options.sink.lost(this, reason);
  }

  /** A rule was broken. */
  #broken(why: string): void {
    this.refuse({ close: CLOSE.protocol, code: 'protocol', message: why });
  }

  #handle(message: NodeMessage): void {
    if (this.state === 'opening') {
      if (message.type === 'hello') this.#greet(message);
      else this.#broken(`${message.type} before hello`);
      return;
    }
    switch (message.type) {
      case 'hello':
        this.#broken('a second hello');
        break;
      case 'stage':
        this.#setStage(message);
        break;
      case 'register':
        this.#register(message.card);
        break;
      case 'tokens':
        if (message.epoch === this.epoch) this.#options.sink.tokens(this, message.frames);
        break;
      case 'failed':
        if (message.epoch === this.epoch) this.#options.sink.failed(this, message);
        break;
      case 'transfer_open':
      case 'transfer_closed':
      case 'prefill_closed':
      case 'signal':
        if (message.epoch === this.epoch) this.#transfer(message);
        break;
      case 'kv_events':
        this.#kv(message.rank, (rank) => rank.append(message.events));
        break;
      case 'kv_snapshot':
        this.#kv(message.rank, (rank) => rank.part(message.snapshot));
        break;
      case 'loras':
        this.loras.set(message);
        this.#options.desk.changed(this);
        break;
      case 'load':
        this.#load(message.load);
        break;
      case 'pong':
        this.#heartbeat.answered(message.nonce);
        break;
      case 'drain':
        this.#drain(message.reason);
        this.send({ type: 'unregistered' });
        break;
      case 'error':
        this.detail = message.message;
        this.#failure = message.message;
        this.#options.log.warn({ node: this.id, code: message.code }, `a node fails: ${message.message}`);
        this.#options.desk.changed(this);
        break;
    }
  }

  #transfer(message: TransferMessage): void {
    const wrong = this.#options.transfers.receive(this, message);
    if (wrong !== null) this.#broken(wrong);
  }

  #greet(hello: Hello): void {
    this.agent = hello.agent;
    const answer = this.#options.desk.greet(hello, this);
    if ('close' in answer) {
      this.refuse(answer);
      return;
    }
    this.#stopHelloTimer();
    this.state = 'greeted';
    this.id = answer.node;
    this.epoch = answer.epoch;
    this.model = answer.model.name;
    this.joinedAt = Date.now();
    this.send(answer);
    this.#options.log.info({ node: this.id, model: this.model, epoch: this.epoch }, `a node joins: ${this.agent}`);
    this.#heartbeat.start();
    this.#options.desk.changed(this);
  }

  #register(card: Card): void {
    if (this.state !== 'greeted') {
      this.#broken('register by a node that is registered already');
      return;
    }
    const refusal = this.#options.desk.accept(card, this);
    if (refusal !== null) {
      this.refuse(refusal);
      return;
    }
    this.card = card;
    this.ill = null;
    this.loras.forget();
    this.state = 'ready';
    this.stage = 'ready';
    this.detail = '';
    this.send({ type: 'registered', node: this.id });
    const { adapter, totalBlocks, maxNumSeqs, maxModelLen } = card;
    const sizes = { totalBlocks, maxNumSeqs, maxModelLen };
    const fields = { node: this.id, model: this.model, software: adapter.software, ...sizes };
    this.#options.log.info(fields, `a node is ready: ${adapterName(adapter)}`);
    this.#options.desk.changed(this);
  }

  /** Ready is the hub's word, said by `registered`; a ready node that says another stage has left the ready ones. */
  #setStage(message: Extract<NodeMessage, { type: 'stage' }>): void {
    if (message.stage === 'draining') {
      this.#drain(message.detail);
      return;
    }
    this.detail = message.detail;
    this.loadedBytes = message.loadedBytes;
    this.totalBytes = message.totalBytes;
    if (message.stage !== 'ready' && this.state !== 'draining') {
      const wasReady = this.state === 'ready';
      this.state = 'greeted';
      this.stage = message.stage;
      this.resting = false;
      this.#forgetRanks();
      this.loras.forget();
      // Whoever looks for another node for what is lost must not find this one.
      this.#options.desk.changed(this);
      if (wasReady) this.#options.sink.lost(this, `the node went back to ${message.stage}: ${message.detail}`);
    }
    this.#options.desk.changed(this);
  }

  /** Before `register` nobody knows the pool that events speak of; the snapshot that follows it tells all. */
  #kv(rank: number, take: (rank: KvRank) => KvVerdict): void {
    if (this.card === null || (this.state !== 'ready' && this.state !== 'draining')) return;
    if (!hasRank(this.card, rank)) {
      this.#broken(`KV events of rank ${rank}, which the node has not`);
      return;
    }
    const known = this.kv.get(rank) ?? this.#openRank(rank, this.card);
    const verdict = take(known);
    if (verdict.kind === 'snapshot needed') this.send({ type: 'kv_snapshot_request', rank });
    if (verdict.kind === 'broken') this.#broken(verdict.reason);
  }

  /** Before `register` it tells of nobody. */
  #load(load: Load): void {
    if (this.card === null) return;
    if (hasRank(this.card, load.rank)) {
      this.loads.set(load.rank, load);
      this.#options.desk.loaded(this, load);
    } else this.#broken(`the load of rank ${load.rank}, which the node has not`);
  }

  #openRank(rank: number, card: Card): KvRank {
    const opened = this.#options.index.open(this.id, rank, card);
    this.kv.set(rank, opened);
    return opened;
  }

  #forgetRanks(): void {
    this.#options.index.close(this.id);
    this.kv.clear();
    this.loads.clear();
  }

  #drain(reason: string): void {
    this.state = 'draining';
    this.stage = 'draining';
    this.detail = reason;
    this.#options.desk.changed(this);
  }
}
