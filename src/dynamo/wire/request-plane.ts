import { type AddressInfo, createServer, isIP, type Server, type Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Handler, RequestObserver, RequestPlane } from '../ports.ts';
import { BridgeStartError } from '../start-error.ts';
import type { AllowedHomes } from './allowed-homes.ts';
import { type AnswerStream, type CallHomeTimes, callHome, type Outcome } from './call-home.ts';
import { CODECS } from './codec.ts';
import { type Control, readControl } from './control.ts';
import { type ConnectionLimits, PendingBytes, readRequests } from './frontend-connection.ts';
import { WireError } from './incoming.ts';
import type { RequestFrame } from './request-frame.ts';
import { readTwoPart } from './two-part.ts';

export interface RequestPlaneLimits extends ConnectionLimits, CallHomeTimes {
  /** Of requests that are not whole yet, on all connections together. */
  readonly maxPendingBytes: number;
  readonly maxConnections: number;
  /** Requests in work, of all workers together. */
  readonly maxInflight: number;
}

export const REQUEST_PLANE_LIMITS: RequestPlaneLimits = {
  maxPayloadBytes: 16 << 20,
  maxUnreadBytes: 1 << 20,
  frameMs: 30_000,
  maxPendingBytes: 256 << 20,
  maxConnections: 1024,
  maxInflight: 4096,
  connectMs: 5_000,
  drainMs: 60_000,
  closeMs: 5_000,
};

export interface RequestPlaneOptions {
  /** The numeric address that frontends reach; it goes into the instance records. */
  readonly host: string;
  /** 0 = any. */
  readonly port: number;
  readonly allowed: AllowedHomes;
  readonly log: Logger;
  readonly limits?: RequestPlaneLimits;
}

interface Endpoint {
  readonly handler: Handler;
  readonly observer: RequestObserver | undefined;
}

/** A request that was acknowledged. */
interface Taken extends Endpoint {
  readonly control: Control;
  readonly body: Buffer;
}

/** Listens for requests. Rejects with `BridgeStartError` where it cannot. */
export async function startRequestPlane(options: RequestPlaneOptions): Promise<RequestPlane> {
  const { host, port } = options;
  if (isIP(host) === 0 || host === '0.0.0.0' || host === '::')
    throw new BridgeStartError(
      `DYN_TCP_RPC_HOST is '${host}'. Name the numeric address that Dynamo's frontends reach this machine at.`,
    );
  const plane = new Plane(options);
  await plane.listen(host, port);
  return plane;
}

class Plane implements RequestPlane {
  readonly #options: RequestPlaneOptions;
  readonly #limits: RequestPlaneLimits;
  readonly #server: Server;
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #connections = new Set<Socket>();
  readonly #running = new Set<Promise<void>>();
  readonly #answers = new Set<AnswerStream>();
  #closing = false;
  #address = '';

  constructor(options: RequestPlaneOptions) {
    const { log, limits = REQUEST_PLANE_LIMITS } = options;
    this.#options = options;
    this.#limits = limits;
    const pending = new PendingBytes(limits.maxPendingBytes);
    this.#server = createServer({ noDelay: true }, (socket) => {
      this.#connections.add(socket);
      socket.on('close', () => this.#connections.delete(socket));
      const peer = socket.remoteAddress ?? '';
      const serve = (frame: RequestFrame) => this.#serve(frame, peer);
      const cut = (why: string) => log.warn({ peer }, `a connection of Dynamo's request plane is closed: ${why}`);
      readRequests(socket, limits, pending, serve, cut);
    });
    this.#server.maxConnections = limits.maxConnections;
    this.#server.on('drop', (dropped) => {
      const message = `${limits.maxConnections} connections of Dynamo's request plane are open; one more is refused`;
      log.warn({ peer: dropped?.remoteAddress }, message);
    });
  }

  get address(): string {
    return this.#address;
  }

  async listen(host: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => {
        const message = `Dynamo's requests cannot be taken at ${host}:${port} (DYN_TCP_RPC_HOST, DYN_TCP_RPC_PORT): ${error.message}.`;
        reject(new BridgeStartError(message, { cause: error }));
      });
      this.#server.listen(port, host, resolve);
    });
    const { address, family, port: bound } = this.#server.address() as AddressInfo;
    this.#address = family === 'IPv6' ? `[${address}]:${bound}` : `${address}:${bound}`;
  }

  serve(path: string, handler: Handler, observer?: RequestObserver): void {
    this.#endpoints.set(path, { handler, observer });
  }

  remove(path: string): void {
    this.#endpoints.delete(path);
  }

  async close(): Promise<void> {
    this.#closing = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const answer of this.#answers) shutDown(answer);
    await Promise.all(this.#running);
    for (const socket of this.#connections) socket.destroy();
    await closed;
  }

  /** Begins a request, or says why it is refused. Throws `WireError` for one that breaks the format. */
  #serve(frame: RequestFrame, peer: string): string | null {
    const taken = this.#take(frame, peer);
    if (typeof taken === 'string') {
      this.#options.log.warn({ peer }, `a request of Dynamo is refused: ${taken}`);
      return taken;
    }
    const done = this.#run(taken).finally(() => this.#running.delete(done));
    this.#running.add(done);
    return null;
  }

  #take({ path, payload }: RequestFrame, peer: string): Taken | string {
    const endpoint = this.#endpoints.get(path);
    const { maxInflight } = this.#limits;
    if (this.#closing || endpoint === undefined) return `no worker serves ${path.slice(0, 200)} here (any more)`;
    if (this.#running.size >= maxInflight) return `${maxInflight} requests are in work, which is the limit`;
    const { header, body } = readTwoPart(payload);
    const control = readControl(header);
    const { host } = control.home;
    if (this.#options.allowed(peer, host)) return { ...endpoint, control, body };
    return `the answer shall go to ${host}, which is neither where the request came from (${peer}) nor in --dynamo-allow`;
  }

  /** Never rejects. */
  async #run({ handler, observer, control, body }: Taken): Promise<void> {
    const { log } = this.#options;
    const { home } = control;
    const codec = CODECS[control.payload_codec];
    const began = performance.now();
    const ended = (outcome: Outcome) => observer?.ended(outcome, (performance.now() - began) / 1000);
    observer?.began(body.length);
    let answer: AnswerStream;
    try {
      answer = await callHome({ home, codec, times: this.#limits, log });
    } catch (error) {
      const message = 'a request of Dynamo is not answered: its frontend does not take the connection';
      log.warn({ err: error, ...home }, message);
      ended('error');
      return;
    }
    this.#answers.add(answer);
    if (this.#closing) shutDown(answer);
    else await handle(handler, () => codec.decode(body), answer, log);
    observer?.sent(answer.bytes);
    ended(answer.outcome ?? 'error');
    await answer.closed;
    this.#answers.delete(answer);
  }
}

/** Ends an answer in the way that lets Dynamo go on with it elsewhere. */
function shutDown(answer: AnswerStream): void {
  answer.cut({ Backend: 'EngineShutdown' }, 'The worker is shutting down.');
}

/** Lets the handler answer, and answers for it where it does not. Never rejects. */
async function handle(handler: Handler, body: () => unknown, answer: AnswerStream, log: Logger): Promise<void> {
  try {
    await handler(body(), answer, answer.signal);
    answer.error('Unknown', 'The worker ended this request before its answer was complete.');
  } catch (error) {
    if (error instanceof WireError) {
      answer.error('InvalidArgument', `The request has ${error.message}.`);
      return;
    }
    log.error({ err: error }, 'the answer to a request of Dynamo failed');
    answer.error('Unknown', 'The worker failed while it answered this request. Its log has the cause.');
  }
}
