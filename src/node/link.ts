import type { Clock } from '../protocol/clock.ts';
import { CLOSE, isFinalClose } from '../protocol/close-codes.ts';
import {
  type AdapterRoom,
  type Card,
  type ErrorCode,
  encode,
  HubMessage,
  type NodeMessage,
  type NodeStage,
  type SleepLevel,
  VERSIONS,
} from '../protocol/messages.ts';
import type { NodeProblem } from './snapshot.ts';
import type { Connect, Socket } from './socket.ts';

/**
 * connecting: a socket opens, for the first time. greeting: hello is sent, no welcome yet. warming: welcome, not
 * registered, or not any more. registered: serving. reconnecting: between two sockets, or opening the next one. left: over, for good.
 */
export type LinkState = 'connecting' | 'greeting' | 'warming' | 'registered' | 'reconnecting' | 'left';

export type HubMessageOf<T extends HubMessage['type']> = Extract<HubMessage, { type: T }>;
export type Welcome = HubMessageOf<'welcome'>;

type WithoutEpoch<T> = T extends unknown ? Omit<T, 'epoch'> : never;
/** What a node tells of KV transfers, before its link adds the epoch. */
export type TransferMessage = WithoutEpoch<
  Extract<NodeMessage, { type: 'transfer_open' | 'transfer_closed' | 'prefill_closed' | 'signal' }>
>;

/** What a link tells its node. Calls come one after the other, in the order of the hub's messages. */
export interface LinkListener {
  /** Also after every reconnect. The node answers with `register`, at once or when its engine is ready. */
  welcome(message: Welcome): void;
  registered(): void;
  generate(message: HubMessageOf<'generate'>): void;
  cancel(message: HubMessageOf<'cancel'>): void;
  snapshotRequested(rank: number): void;
  /** All LoRA adapters that the node shall have. */
  loras(message: HubMessageOf<'loras'>): void;
  /** All ranks forget their prefix caches. */
  resetPrefixCache(): void;
  sleep(level: SleepLevel): void;
  wake(): void;
  /** No `generate` comes after this one, the answer to the node's `drain`. */
  unregistered(): void;
  /** The hub will end; until it closes it may still ask. */
  drain(message: HubMessageOf<'drain'>): void;
  /** What the hub says of KV transfers. */
  transfer(message: HubMessageOf<'prefill' | 'transfer_cancel' | 'signal'>): void;
  /** The connection is lost and will be tried again in `retryMs`; nothing of the old one is valid any more. */
  lost(reason: string, retryMs: number): void;
  /** Over; `problem` is null when the node itself left. */
  left(problem: NodeProblem | null): void;
}

export interface LinkOptions {
  readonly connect: Connect;
  readonly clock: Clock;
  /** Uniform in [0, 1); spreads the reconnects of many nodes. */
  readonly random: () => number;
  readonly ticket: string | null;
  /** What the hub's dashboard calls this node. */
  readonly agent: string;
  /** What the adapter allows; null = no adapter, or nobody asked it. */
  readonly room: AdapterRoom | null;
  /** The page's query. */
  readonly query: string;
}

/** From opening a socket to `welcome`. */
const WELCOME_MS = 15_000;
/** The same for opening one to a hub that was there before: while a machine restarts, packets to it vanish. */
const REOPEN_MS = 4_000;
/** The hub pings every 5 s (rule L1); so many times longer without any message and the line is dead. */
const SILENT_TICK_MS = 5_000;
const MAX_SILENT_TICKS = 4;
const FIRST_RETRY_MS = 500;
/** A hub that restarts has its nodes back within 5 seconds (rule J6). */
const MAX_RETRY_MS = 4_000;
/** About twenty minutes of a hub out of reach. */
const MAX_TRIES = 400;
/** Unsent bytes at which the hub counts as not reading. */
const MAX_BUFFERED = 32 << 20;
/** Longest text of one message from the hub: a prompt of `MAX_IDS` ids fits. */
const MAX_MESSAGE = 16 << 20;

/** Close code of a connection that was cut, or never came about (RFC 6455, 7.4.1). */
const NEVER_OPENED = 1006;

/** A node's side of its hub connection: a state machine over a socket, a clock and a random number. */
export class Link {
  private current: LinkState = 'connecting';
  private socket: Socket | null = null;
  private epoch = 0;
  private resume: { node: string; token: string } | null = null;
  /** Fingerprint of the model that the first welcome named. */
  private model: string | null = null;
  private tries = 0;
  private silentTicks = 0;
  /** Whether the hub has said `registered` on this connection. */
  private wasRegistered = false;
  private lastError: { code: ErrorCode; message: string } | null = null;
  private stopTimer: () => void = () => {};

  constructor(
    private readonly options: LinkOptions,
    private readonly listener: LinkListener,
  ) {}

  get state(): LinkState {
    return this.current;
  }

  /** Opens the first socket. */
  start(): void {
    this.open();
  }

  /** Registers the engine; the hub answers with `registered`. Only while `warming`. */
  register(card: Card): void {
    if (this.current === 'warming') this.send({ type: 'register', card });
  }

  /** The engine is out of service: the hub shall ask for nothing until the next `register` (rule J10). */
  unregister({ stage, detail }: { stage: NodeStage; detail: string }): void {
    this.send({ type: 'stage', stage, detail: detail.slice(0, 4096), loadedBytes: 0, totalBytes: 0 });
    if (this.current === 'registered') this.current = 'warming';
  }

  /** Sends to the hub of this epoch; what has no connection to go to is dropped, as the hub would drop it (rule J7). */
  send(message: NodeMessage): void {
    if (!this.socket || (this.current !== 'warming' && this.current !== 'registered')) return;
    if (this.socket.bufferedAmount > MAX_BUFFERED) {
      this.reconnect(CLOSE.slowReader, 'the hub does not read what this node sends');
      return;
    }
    this.socket.send(encode(message));
  }

  /** `tokens` and `failed` carry the epoch of the connection that they go to. */
  sendTokens(frames: Extract<NodeMessage, { type: 'tokens' }>['frames']): void {
    this.send({ type: 'tokens', epoch: this.epoch, frames });
  }

  sendFailed(request: string, attempt: number, code: ErrorCode, message: string): void {
    this.send({ type: 'failed', epoch: this.epoch, request, attempt, code, message: message.slice(0, 4096) });
  }

  /** So do the messages of KV transfers. */
  sendTransfer(message: TransferMessage): void {
    this.send({ ...message, epoch: this.epoch });
  }

  /** Ends the link by the node's own wish; `problem` is told to the hub first. */
  leave(problem: { code: ErrorCode; message: string } | null): void {
    if (this.current === 'left') return;
    if (problem) this.send({ type: 'error', code: problem.code, message: problem.message.slice(0, 4096) });
    this.end(null, 1000, problem ? problem.message : 'the node leaves');
  }

  private open(): void {
    const socket = this.options.connect({
      opened: () => {
        if (socket === this.socket) this.greet();
      },
      message: (text) => {
        if (socket === this.socket) this.receive(text);
      },
      closed: (code, reason) => {
        if (socket === this.socket) this.closed(code, reason);
      },
    });
    this.socket = socket;
    this.lastError = null;
    this.awaitHub(this.resume === null ? WELCOME_MS : REOPEN_MS);
  }

  private awaitHub(ms: number): void {
    this.arm(ms, () => this.reconnect(CLOSE.timeout, 'the hub did not answer in time'));
  }

  private greet(): void {
    this.awaitHub(WELCOME_MS);
    this.current = 'greeting';
    const { ticket, agent, room, query } = this.options;
    const hello: NodeMessage = {
      type: 'hello',
      versions: [...VERSIONS],
      agent,
      ...(room === null ? {} : { room }),
      ...(query === '' ? {} : { query: query.slice(0, 4096) }),
      ...(ticket === null ? {} : { ticket }),
      ...(this.resume === null ? {} : { resume: this.resume }),
      ...(this.model === null ? {} : { loaded: this.model }),
    };
    this.socket?.send(encode(hello));
  }

  private receive(text: string): void {
    this.silentTicks = 0;
    const message = parse(text);
    const breach = typeof message === 'string' ? message : this.handle(message);
    if (breach !== null) this.breach(breach);
  }

  /** Does what a message asks; returns how it breaks the protocol, or null. */
  private handle(message: HubMessage): string | null {
    const { listener } = this;
    switch (message.type) {
      case 'welcome':
        if (this.current !== 'greeting') return 'a second welcome';
        this.current = 'warming';
        this.wasRegistered = false;
        this.epoch = message.epoch;
        this.resume = { node: message.node, token: message.resumeToken };
        this.model ??= message.model.fingerprint;
        this.watch();
        listener.welcome(message);
        return null;
      case 'registered':
        if (this.current !== 'warming') return 'registered, without a register before it';
        this.current = 'registered';
        this.wasRegistered = true;
        this.tries = 0;
        listener.registered();
        return null;
      case 'ping':
        this.send({ type: 'pong', nonce: message.nonce });
        return null;
      case 'error':
        this.lastError = { code: message.code, message: message.message };
        return null;
      case 'drain':
        listener.drain(message);
        return null;
      // Also to a node that sleeps since an earlier connection.
      case 'wake':
        listener.wake();
        return null;
    }
    // After `unregister` some may still be on their way; the node answers that it has no engine.
    if (!this.wasRegistered) return `${message.type} before registered`;
    switch (message.type) {
      case 'generate':
        listener.generate(message);
        break;
      case 'cancel':
        listener.cancel(message);
        break;
      case 'kv_snapshot_request':
        listener.snapshotRequested(message.rank);
        break;
      case 'loras':
        listener.loras(message);
        break;
      case 'reset_prefix_cache':
        listener.resetPrefixCache();
        break;
      case 'sleep':
        listener.sleep(message.level);
        break;
      case 'unregistered':
        listener.unregistered();
        break;
      default:
        listener.transfer(message);
    }
    return null;
  }

  private breach(what: string): void {
    const message = `The hub broke the protocol: ${what}. Hub and page may be of different versions: reload the page.`;
    this.socket?.send(encode({ type: 'error', code: 'protocol', message: message.slice(0, 4096) }));
    this.end({ code: 'protocol', message }, CLOSE.protocol, what);
  }

  private closed(code: number, reason: string): void {
    this.socket = null;
    const said = this.lastError?.message || reason;
    if (isFinalClose(code)) {
      const message = said || `The hub closed the connection with code ${code}.`;
      this.end({ code: this.lastError?.code ?? CLOSE_NAMES.get(code) ?? 'protocol', message }, 1000, '');
    } else {
      this.retry(said || (code === NEVER_OPENED ? 'the hub cannot be reached' : `the hub closed with code ${code}`));
    }
  }

  /** Drops a socket that still looks open and goes for the next one. */
  private reconnect(code: number, reason: string): void {
    const socket = this.socket;
    this.socket = null;
    socket?.close(code, reason);
    this.retry(reason);
  }

  private retry(reason: string): void {
    this.stopTimer();
    this.tries++;
    if (this.tries > MAX_TRIES) {
      const message = `The hub could not be reached ${MAX_TRIES} times in a row (last: ${reason}). Check that it runs, then join again.`;
      this.end({ code: 'unreachable', message }, 1000, '');
      return;
    }
    this.current = 'reconnecting';
    const longest = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (this.tries - 1));
    const wait = Math.round(longest * (0.5 + 0.5 * this.options.random()));
    this.arm(wait, () => this.open());
    this.listener.lost(reason, wait);
  }

  private end(problem: NodeProblem | null, code: number, reason: string): void {
    this.stopTimer();
    this.current = 'left';
    const socket = this.socket;
    this.socket = null;
    socket?.close(code, reason);
    this.listener.left(problem);
  }

  /** Counts ticks without a message, not time: after a long sleep of the machine the queued messages come first. */
  private watch(): void {
    this.arm(SILENT_TICK_MS, () => {
      this.silentTicks++;
      if (this.silentTicks >= MAX_SILENT_TICKS) this.reconnect(CLOSE.timeout, 'the hub went silent');
      else this.watch();
    });
  }

  private arm(ms: number, task: () => void): void {
    this.stopTimer();
    this.stopTimer = this.options.clock.after(ms, task);
  }
}

const CLOSE_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(CLOSE).map(([name, code]) => [code, name]));

/** A message of the hub, or what is wrong with it. */
function parse(text: string): HubMessage | string {
  if (text.length > MAX_MESSAGE) return `a message of ${text.length} characters (at most ${MAX_MESSAGE})`;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return 'a message that is no JSON';
  }
  const result = HubMessage.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  return `a message with a wrong ${issue?.path.join('.') || 'type'}: ${issue?.message ?? 'unknown'}`;
}
