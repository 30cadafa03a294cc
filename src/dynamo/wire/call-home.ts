import { connect, type Socket } from 'node:net';
import type { Logger } from 'pino';
import type { DynamoErrorType, Reply } from '../ports.ts';
import type { Codec } from './codec.ts';
import type { CallHome } from './control.ts';
import { Incoming } from './incoming.ts';
import { twoParts, writeTwoPart } from './two-part.ts';

/** How long an answer's connection may take, milliseconds. */
export interface CallHomeTimes {
  /** Until it is open. */
  readonly connectMs: number;
  /** Until a frontend that reads nothing is given up. */
  readonly drainMs: number;
  /** Until the frontend closes it, after the last message. */
  readonly closeMs: number;
}

/** How an answer ended. */
export type Outcome = 'success' | 'error' | 'cancelled';

/** What frontends say on this connection is one word. */
const MAX_CONTROL_BYTES = 4096;

export interface CallHomeOptions {
  readonly home: CallHome;
  readonly codec: Codec;
  readonly times: CallHomeTimes;
  readonly log: Logger;
}

/** Opens the connection that an answer goes over. Rejects where nobody listens there in time. */
export async function callHome(options: CallHomeOptions): Promise<AnswerStream> {
  const { host, port } = options.home;
  const { connectMs } = options.times;
  const socket = connect({ host, port, noDelay: true });
  await new Promise<void>((resolve, reject) => {
    socket.setTimeout(connectMs, () => socket.destroy(new Error(`it took more than ${connectMs / 1000} seconds`)));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.removeAllListeners('timeout');
      socket.off('error', reject);
      resolve();
    });
  });
  return new AnswerStream(socket, options);
}

/** An answer on its connection: messages in order, no more of them than the frontend reads, and nothing once it has left. */
export class AnswerStream implements Reply {
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #options: CallHomeOptions;
  readonly #abort = new AbortController();
  #accepted = false;
  #bytes = 0;
  #outcome: Outcome | null = null;

  constructor(socket: Socket, options: CallHomeOptions) {
    this.#socket = socket;
    this.#options = options;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    const incoming = new Incoming(twoParts(MAX_CONTROL_BYTES));
    socket.on('data', (chunk) => this.#take(incoming, chunk));
    socket.on('end', () => this.#left());
    socket.on('close', () => this.#left());
    // `close` follows.
    socket.on('error', () => {});
    this.#header({ subject: options.home.subject, stream_type: 'response' });
  }

  /** Aborts when nobody reads any more. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** null while it goes on. */
  get outcome(): Outcome | null {
    return this.#outcome;
  }

  /** That were given to the connection. */
  get bytes(): number {
    return this.#bytes;
  }

  accept(): void {
    if (this.#accepted || this.#outcome !== null) return;
    this.#accepted = true;
    this.#header({ error: null });
  }

  async item(data: object, form: 'annotated' | 'bare' = 'annotated'): Promise<void> {
    if (this.#outcome !== null) return;
    this.accept();
    if (!this.#body({ data: form === 'annotated' ? { data } : data, complete_final: false })) await this.#drained();
  }

  async tokens(ids: readonly number[]): Promise<void> {
    if (this.#outcome !== null) return;
    this.accept();
    if (!this.#write(writeTwoPart({ body: this.#options.codec.tokens(ids) }))) await this.#drained();
  }

  error(type: DynamoErrorType, message: string): void {
    if (this.#outcome !== null) return;
    this.accept();
    this.#body({ data: { event: 'error', error: { error_type: type, message } }, complete_final: false });
    this.#finish('error');
  }

  end(): void {
    if (this.#outcome !== null) return;
    this.accept();
    this.#finish('success');
  }

  abandon(): void {
    if (this.#outcome !== null) return;
    this.#outcome = 'error';
    this.#close();
  }

  /** Ends it with an error, and tells whoever computes it to stop. */
  cut(type: DynamoErrorType, message: string): void {
    this.error(type, message);
    this.#abort.abort();
  }

  #finish(outcome: Outcome): void {
    this.#outcome = outcome;
    this.#body({ complete_final: true });
    this.#header('sentinel');
    // The frontend closes; one that does not must not keep the socket.
    this.#destroyLater();
  }

  #take(incoming: Incoming<{ readonly header: Buffer }>, chunk: Buffer): void {
    if (this.#abort.signal.aborted) return;
    try {
      for (const { header } of incoming.push(chunk)) {
        const word = header.toString();
        if (word === '"kill"' || word === '"stop"') this.#left();
      }
    } catch (error) {
      this.#options.log.warn(
        { err: error, ...this.#options.home },
        'a frontend of Dynamo breaks the format of answers; its request is dropped',
      );
      this.#left();
    }
  }

  /** The frontend wants no more, or is gone. */
  #left(): void {
    if (this.#abort.signal.aborted) return;
    this.#outcome ??= 'cancelled';
    this.#abort.abort();
    this.#close();
  }

  #close(): void {
    this.#socket.end();
    this.#destroyLater();
  }

  #destroyLater(): void {
    const timer = setTimeout(() => this.#socket.destroy(), this.#options.times.closeMs);
    void this.closed.then(() => clearTimeout(timer));
  }

  /** Resolves when the frontend has read, or is given up. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#socket.off('drain', done);
        this.#socket.off('close', done);
        resolve();
      };
      const { times, home, log } = this.#options;
      const timer = setTimeout(() => {
        log.warn(
          { ...home },
          `a frontend of Dynamo has read nothing for ${times.drainMs / 1000} seconds; its request is dropped`,
        );
        this.#socket.destroy();
      }, times.drainMs);
      this.#socket.once('drain', done);
      this.#socket.once('close', done);
    });
  }

  #header(header: object | string): boolean {
    return this.#write(writeTwoPart({ header: Buffer.from(JSON.stringify(header)) }));
  }

  #body(body: object): boolean {
    return this.#write(writeTwoPart({ body: this.#options.codec.encode(body) }));
  }

  /** False when the frontend shall read first. */
  #write(message: Buffer): boolean {
    this.#bytes += message.length;
    return this.#socket.write(message);
  }
}
