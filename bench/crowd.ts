import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { encode } from '../src/protocol/messages.ts';

/** What the crowd needs of a message of the hub; the hub is trusted here, and parsing would cost more than the rest. */
interface HubWord {
  readonly type: string;
  readonly nonce: number;
  readonly node: string;
  readonly epoch: number;
  readonly blockSize: number;
  readonly hashAlgo: 'xxh3';
  readonly model: { readonly name: string; readonly fingerprint: string };
  readonly attempt: number;
  readonly generate: { readonly request: string; readonly prompt: readonly number[] };
}

/** A request that runs on a node of the crowd. */
interface Stream {
  readonly node: CrowdNode;
  readonly request: string;
  readonly attempt: number;
  /** Number of the client's stream, which is the first token of its prompt. */
  readonly number: number;
}

interface CrowdNode {
  readonly socket: WebSocket;
  epoch: number;
}

/** Sockets that open at once; more would wait in the listener's queue. */
const WIDTH = 100;

/** Many nodes without engines in one process: real sockets to a real hub, that say no more than they must. */
export class Crowd {
  #streams: Stream[] = [];
  readonly #arrivals = new Map<number, (at: number) => void>();
  readonly #nodes: CrowdNode[] = [];
  #closed = 0;
  #arrived: () => void = () => {};

  /** Nodes whose socket the hub closed. */
  get closed(): number {
    return this.#closed;
  }

  /** Opens `count` nodes; resolves when all are registered. */
  async join(url: string, count: number): Promise<void> {
    let left = count;
    const one = async () => {
      while (left-- > 0) await this.#open(url);
    };
    await Promise.all(Array.from({ length: WIDTH }, one));
  }

  /** Resolves when `count` streams run. */
  async running(count: number): Promise<void> {
    while (this.#streams.length < count) {
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }

  /** When the request of that client's stream came to a node. */
  arrival(stream: number): Promise<number> {
    return new Promise((resolve) => this.#arrivals.set(stream, resolve));
  }

  /** Gives each stream `steps` tokens, one a period, the streams in turn; `sent` hears of each just before. Resolves after the last ones. */
  async speak(
    steps: number,
    { periodMs, sliceMs }: { readonly periodMs: number; readonly sliceMs: number },
    sent: (stream: number, offset: number) => void,
  ): Promise<void> {
    const slices = Math.max(1, Math.round(periodMs / sliceMs));
    const streams = this.#streams.splice(0);
    const began = performance.now();
    for (let tick = 0; tick < steps * slices; tick++) {
      await delay(Math.max(0, began + (tick * periodMs) / slices - performance.now()));
      const offset = Math.floor(tick / slices);
      for (let i = tick % slices; i < streams.length; i += slices) {
        sent(streams[i]!.number, offset);
        say(streams[i]!, offset, offset === steps - 1);
      }
    }
  }

  leave(): void {
    for (const { socket } of this.#nodes) socket.terminate();
  }

  async #open(url: string): Promise<void> {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/cluster`, ['quire.v1'], { perMessageDeflate: false });
    const node: CrowdNode = { socket, epoch: 0 };
    this.#nodes.push(node);
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed += 1;
    });
    await once(socket, 'open');
    const registered = new Promise<void>((resolve, reject) => {
      socket.once('close', (code, reason) => reject(new Error(`a node was closed with ${code}: ${reason}`)));
      socket.on('message', (data) => {
        if (this.#receive(node, JSON.parse(data.toString()) as HubWord) === 'registered') resolve();
      });
    });
    socket.send(encode({ type: 'hello', versions: ['quire.v1'], agent: 'crowd' }));
    await registered;
  }

  #receive(node: CrowdNode, word: HubWord): string {
    const { type } = word;
    if (type === 'ping') node.socket.send(`{"type":"pong","nonce":${word.nonce}}`);
    if (type === 'welcome') {
      node.epoch = word.epoch;
      node.socket.send(encode({ type: 'register', card: cardFor(word) }));
    }
    if (type === 'generate') {
      const { attempt, generate } = word;
      const number = generate.prompt[0] ?? 0;
      this.#streams.push({ node, request: generate.request, attempt, number });
      this.#arrivals.get(number)?.(performance.now());
      this.#arrivals.delete(number);
      this.#arrived();
    }
    return type;
  }
}

function say({ node, request, attempt }: Stream, offset: number, last: boolean): void {
  const frame = { request, attempt, choice: 0, offset, tokens: [400 + (offset % 400)] };
  const more = { ...(offset === 0 ? { cachedTokens: 0 } : {}), ...(last ? { finish: 'length' } : {}) };
  node.socket.send(JSON.stringify({ type: 'tokens', epoch: node.epoch, frames: [{ ...frame, ...more }] }));
}

function cardFor({ model, blockSize, hashAlgo }: HubWord) {
  return {
    model: model.name,
    fingerprint: model.fingerprint,
    numericsId: 'crowd',
    role: 'agg' as const,
    dpRank: 0,
    dpSize: 1,
    transports: [],
    localScope: null,
    adapter: { vendor: 'crowd', architecture: '', device: '', description: '', software: false, features: [] },
    blockSize,
    totalBlocks: 4096,
    maxModelLen: 2048,
    maxNumSeqs: 32,
    maxNumBatchedTokens: 256,
    kvCacheDtype: 'f32',
    hashAlgo,
  };
}
