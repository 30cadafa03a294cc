import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { GenerateRequest } from '../../src/protocol/generate.ts';
import { type Card, encode, HubMessage, type Load, type NodeMessage } from '../../src/protocol/messages.ts';
import type { Gate } from './gate.ts';

export type HubMessageOf<T extends HubMessage['type']> = Extract<HubMessage, { type: T }>;
type TokensMessage = Extract<NodeMessage, { type: 'tokens' }>;
export type Hello = Extract<NodeMessage, { type: 'hello' }>;

export interface ScriptedNodeOptions {
  readonly hello?: Partial<Hello>;
  readonly card?: Partial<Omit<Card, 'adapter'>>;
  readonly software?: boolean;
  readonly headers?: Record<string, string>;
  readonly protocols?: string[];
  /** PEM of a certificate to trust, for https hubs. */
  readonly ca?: string;
  /** Tokens of a choice; the node sends each with its own message. Default: `scriptedTokens`. null = the test answers itself. */
  readonly reply?: ((request: GenerateRequest, choice: number) => number[]) | null;
  /** Sends no more after so many tokens of each choice, as a node that hangs; with `gate`, until it is open. */
  readonly hangAfter?: number;
  /** Without `hangAfter` it is the first token that waits. */
  readonly gate?: Gate;
  /** Awaited before the tokens of a request whose prompt another node shall compute. */
  readonly transfer?: (message: HubMessageOf<'generate'>, node: ScriptedNode) => Promise<void>;
  /** What it does when it shall compute a prompt for another node. */
  readonly prefill?: (message: HubMessageOf<'prefill'>, node: ScriptedNode) => void;
  /** Milliseconds between two tokens. */
  readonly tokenMs?: number;
  /** false = leaves pings without an answer. */
  readonly pong?: boolean;
}

/** What a scripted node answers by default: ids that depend on prompt, choice and offset alone. */
export function scriptedTokens(request: GenerateRequest, choice: number): number[] {
  const seed = request.prompt.reduce((sum, id) => (sum * 31 + id) % 1009, choice);
  return Array.from({ length: request.sampling.maxTokens }, (_, offset) => 300 + ((seed + offset * 7) % 500));
}

/** Made-up logprobs of a prompt; nothing comes before its first token. */
function scored(prompt: readonly number[]): TokensMessage['frames'][number]['promptLogprobs'] {
  return prompt.map((token, at) => (at === 0 ? null : { token, logprob: -at, rank: 1, top: [] }));
}

/** A node without an engine: a real WebSocket to a real hub, with everything it does in the hands of the test. */
export class ScriptedNode {
  readonly received: HubMessage[] = [];
  /** Requests of which it has sent all that it will: to the end, or to `hangAfter`. */
  readonly quiet: string[] = [];
  /** Close code and reason, once it is closed. */
  readonly closed: Promise<{ code: number; reason: string }>;
  welcome: HubMessageOf<'welcome'> | null = null;
  readonly #waiters: (() => void)[] = [];
  /** Attempt of each request that runs. */
  readonly #running = new Map<string, number>();

  private constructor(
    readonly socket: WebSocket,
    private readonly options: ScriptedNodeOptions,
  ) {
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        this.#wake();
      });
    });
    socket.on('error', () => {});
    socket.on('message', (data) => this.#receive(HubMessage.parse(JSON.parse(data.toString()))));
  }

  /** Opens the socket and says nothing. Rejects when the hub refuses the upgrade. */
  static async open(hubUrl: string, options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
    const url = `${hubUrl.replace(/^http/, 'ws')}/cluster`;
    const socket = new WebSocket(url, options.protocols ?? ['quire.v1'], {
      ...(options.headers === undefined ? {} : { headers: options.headers }),
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
    const node = new ScriptedNode(socket, options);
    await new Promise<void>((resolve, reject) => {
      socket.once('open', () => resolve());
      socket.once('error', reject);
    });
    return node;
  }

  /** Opens, says hello and waits for `welcome`. */
  static async greet(hubUrl: string, options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
    const node = await ScriptedNode.open(hubUrl, options);
    node.hello();
    node.welcome = await node.next('welcome');
    return node;
  }

  /** All the way to `registered`. */
  static async join(hubUrl: string, options: ScriptedNodeOptions = {}): Promise<ScriptedNode> {
    const node = await ScriptedNode.greet(hubUrl, options);
    node.send({ type: 'register', card: node.card() });
    await node.next('registered');
    return node;
  }

  hello(): void {
    this.send({ type: 'hello', versions: ['quire.v1'], agent: 'scripted node', ...this.options.hello });
  }

  get id(): string {
    return this.welcome?.node ?? '';
  }

  card(): Card {
    const welcome = this.welcome;
    if (welcome === null) throw new Error('no welcome yet');
    return {
      model: welcome.model.name,
      fingerprint: welcome.model.fingerprint,
      numericsId: 'scripted',
      role: 'agg',
      dpRank: 0,
      dpSize: 1,
      transports: [],
      localScope: null,
      adapter: {
        vendor: 'scripted',
        architecture: '',
        device: '',
        description: this.options.software ? 'scripted software adapter' : 'scripted adapter',
        software: this.options.software ?? false,
        features: [],
      },
      blockSize: welcome.blockSize,
      totalBlocks: 128,
      maxModelLen: 2048,
      maxNumSeqs: 32,
      maxNumBatchedTokens: 256,
      kvCacheDtype: 'f32',
      hashAlgo: welcome.hashAlgo,
      ...this.options.card,
    };
  }

  send(message: NodeMessage): void {
    this.socket.send(encode(message));
  }

  /** New tokens of one choice; `epoch` is the connection's unless given. */
  tokens(frame: TokensMessage['frames'][number], epoch = this.welcome?.epoch ?? 0): void {
    this.send({ type: 'tokens', epoch, frames: [frame] });
  }

  load(counters: Partial<Load['counters']> = {}, now: Partial<Omit<Load, 'counters'>> = {}): void {
    const zero = { steps: 0, mixedSteps: 0, submits: 0, overlappedSubmits: 0, rows: 0, decodeRows: 0, prefillRows: 0 };
    const rest = { sampledTokens: 0, cachedTokens: 0, draftTokens: 0, acceptedTokens: 0, preemptions: 0 };
    const state = { rank: 0, running: 0, waiting: 0, usedBlocks: 0, totalBlocks: 128, tokensPerSecond: 0 };
    this.send({ type: 'load', load: { ...state, ...now, counters: { ...zero, ...rest, ...counters } } });
  }

  of<T extends HubMessage['type']>(type: T): HubMessageOf<T>[] {
    return this.received.filter((message): message is HubMessageOf<T> => message.type === type);
  }

  /** The `nth` (from 0) message of a type, as soon as it is there. */
  async next<T extends HubMessage['type']>(type: T, nth = 0): Promise<HubMessageOf<T>> {
    for (;;) {
      const message = this.of(type)[nth];
      if (message !== undefined) return message;
      if (this.socket.readyState === WebSocket.CLOSED) {
        throw new Error(`closed before ${type}; the hub said ${JSON.stringify(this.received)}`);
      }
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  /** Resolves when the hub has read all that the node sent: a WebSocket answers a ping in its turn. */
  async heard(): Promise<void> {
    this.socket.ping();
    await once(this.socket, 'pong');
  }

  async leave(): Promise<void> {
    this.socket.close(1000, 'the node leaves');
    await this.closed;
  }

  #receive(message: HubMessage): void {
    this.received.push(message);
    if (message.type === 'ping' && this.options.pong !== false) this.send({ type: 'pong', nonce: message.nonce });
    if (message.type === 'cancel') this.#running.delete(message.request);
    if (message.type === 'prefill') this.options.prefill?.(message, this);
    if (message.type === 'generate') void this.#answer(message);
    this.#wake();
  }

  async #answer(message: HubMessageOf<'generate'>): Promise<void> {
    const { attempt, generate, prefill } = message;
    const reply = this.options.reply === undefined ? scriptedTokens : this.options.reply;
    if (reply === null) return;
    const { request, sampling, choices } = generate;
    this.#running.set(request, attempt);
    if (prefill !== undefined) await this.options.transfer?.(message, this);
    const replies = choices.map(({ choice, generated }) => ({
      choice,
      begin: generated.length,
      ids: reply(generate, choice).slice(0, sampling.maxTokens),
    }));
    const longest = Math.max(...replies.map(({ ids, begin }) => ids.length - begin));
    const { gate, hangAfter = gate === undefined ? longest : 0 } = this.options;
    for (let step = 0; step < longest; step++) {
      if (step === hangAfter) {
        this.quiet.push(request);
        if (gate === undefined) return;
        await gate.passed;
      }
      await new Promise((resolve) => setTimeout(resolve, this.options.tokenMs ?? 0));
      if (this.#running.get(request) !== attempt || this.socket.readyState !== WebSocket.OPEN) return;
      const frames = replies.flatMap(({ choice, ids, begin }): TokensMessage['frames'] => {
        const offset = begin + step;
        const token = ids[offset];
        if (token === undefined) return [];
        const stopped = sampling.stopIds.includes(token) && offset + 1 >= sampling.minTokens;
        const last = offset + 1 === ids.length;
        return [
          {
            request,
            attempt,
            choice,
            offset,
            tokens: [token],
            ...(step === 0 ? { cachedTokens: begin } : {}),
            ...(offset === 0 && sampling.promptLogprobs !== null ? { promptLogprobs: scored(generate.prompt) } : {}),
            ...(sampling.logprobs === null ? {} : { logprobs: [{ token, logprob: -0.5, rank: 1, top: [] }] }),
            ...(stopped ? { finish: 'stop' as const, stopId: token } : last ? { finish: 'length' as const } : {}),
          },
        ];
      });
      this.send({ type: 'tokens', epoch: this.welcome?.epoch ?? 0, frames });
    }
    this.quiet.push(request);
  }

  #wake(): void {
    for (const waiter of this.#waiters.splice(0)) waiter();
  }
}
