import type { Logger } from 'pino';
import type { Backend } from '../frontend/backend.ts';
import { ApiError, badRequest, unavailable } from '../frontend/errors.ts';
import type { Routing } from '../frontend/routing.ts';
import { CLOSE } from '../protocol/close-codes.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { Card } from '../protocol/messages.ts';
import { ActiveRequest } from './active-request.ts';
import type { Clock } from './clock.ts';
import type { HubLimits } from './config.ts';
import type { Failure, FrameSink, NodeSocket } from './node-socket.ts';
import type { Candidate } from './router/mode.ts';
import type { Route, Router, RouteWish } from './router/router.ts';
import type { AttemptFrame } from './token-log.ts';

export interface DispatcherOptions {
  /** Nodes that take requests for a model. */
  readonly ready: (model: string) => NodeSocket[];
  readonly router: Router;
  readonly clock: Clock;
  readonly limits: HubLimits;
  readonly log: Logger;
}

/** Brings each request to a node and its tokens back: router, token logs, cancelling, and what happens when a node is lost. */
export class Dispatcher implements FrameSink {
  readonly #active = new Map<string, ActiveRequest>();
  readonly #options: DispatcherOptions;
  #stopping = false;
  #whenIdle: (() => void)[] = [];

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  /** What the frontend sees as the thing that computes a model. */
  backend(model: string, vocabSize: number): Backend {
    return {
      generate: (request, signal, routing) => this.#generate(model, vocabSize, request, signal, routing),
    };
  }

  get inflight(): number {
    return this.#active.size;
  }

  /** Requests of which no token came yet. */
  get queued(): number {
    let queued = 0;
    for (const active of this.#active.values()) if (!active.begun) queued += 1;
    return queued;
  }

  /** Requests on each node that has any. */
  perNode(): ReadonlyMap<NodeSocket, number> {
    const requests = new Map<NodeSocket, number>();
    for (const { socket } of this.#active.values()) requests.set(socket, (requests.get(socket) ?? 0) + 1);
    return requests;
  }

  /** Takes no more requests; resolves when the running ones have ended. */
  stop(): Promise<void> {
    this.#stopping = true;
    if (this.#active.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  /** Ends all running requests with an error. */
  failAll(message: string): void {
    for (const active of this.#active.values()) this.#fail(active, unavailable(message, 'hub_stopping'));
  }

  tokens(socket: NodeSocket, frames: readonly AttemptFrame[]): void {
    for (const frame of frames) {
      const active = this.#of(socket, frame.request);
      if (active === null) continue;
      const outcome = active.take(frame);
      if (outcome.kind === 'broken') {
        const message = `request ${frame.request}, choice ${frame.choice}: ${outcome.reason}`;
        // Ends this request, and all others of the node, through `lost`.
        socket.refuse({ close: CLOSE.protocol, code: 'protocol', message });
        return;
      }
      this.#options.router.tokens(socket.id, frame);
      if (outcome.kind === 'finished') this.#finish(active);
      else this.#watch(active);
    }
  }

  failed(socket: NodeSocket, failure: Failure): void {
    const active = this.#of(socket, failure.request);
    if (active === null || failure.attempt !== active.attempt) return;
    this.#options.log.warn({ node: socket.id, request: failure.request, code: failure.code }, failure.message);
    this.#fail(active, failureError(failure));
  }

  lost(socket: NodeSocket, reason: string): void {
    this.#options.router.forget(socket.id);
    for (const active of this.#active.values()) {
      if (active.socket !== socket) continue;
      const message = `The node that computed this request is gone (${reason}). Send the request again.`;
      this.#fail(active, unavailable(message, 'node_lost'));
    }
  }

  async *#generate(
    model: string,
    vocabSize: number,
    request: GenerateRequest,
    signal: AbortSignal,
    routing: Routing,
  ): AsyncGenerator<TokensFrame> {
    if (signal.aborted) return;
    const active = this.#start(model, vocabSize, request, routing);
    const abort = () => this.#cancel(active);
    signal.addEventListener('abort', abort, { once: true });
    try {
      yield* active.queue;
    } finally {
      signal.removeEventListener('abort', abort);
      this.#cancel(active);
    }
  }

  #start(model: string, vocabSize: number, request: GenerateRequest, routing: Routing): ActiveRequest {
    const { limits, router } = this.#options;
    if (this.#stopping)
      throw unavailable('The hub is shutting down. Send the request to another hub, or later.', 'hub_stopping');
    if (this.#active.size >= limits.maxInflight) {
      throw unavailable(
        `The hub has ${limits.maxInflight} requests in work, which is its limit. Try again soon.`,
        'overloaded',
      );
    }
    if (this.#active.has(request.request)) throw new Error(`request id ${request.request} is in use`);
    const route = router.choose(request, this.#candidates(model, request), routing);
    if (route.kind !== 'chosen') throw this.#noRoute(route, model, request, routing);
    const { socket } = route.candidate;
    const active = new ActiveRequest(request, socket, vocabSize);
    this.#active.set(request.request, active);
    router.added(socket.id, request, route);
    routing.routed({ node: socket.id, overlapBlocks: route.overlapBlocks, promptBlocks: route.promptBlocks });
    this.#watch(active);
    socket.send({ type: 'generate', attempt: active.attempt, generate: request });
    return active;
  }

  #candidates(model: string, request: GenerateRequest) {
    const length = sequenceLength(request);
    const candidates: { id: string; card: Card; socket: NodeSocket }[] = [];
    for (const socket of this.#options.ready(model)) {
      const { id, card } = socket;
      if (card !== null && card.maxModelLen >= length) candidates.push({ id, card, socket });
    }
    return candidates;
  }

  #noRoute(
    { kind }: Exclude<Route<Candidate>, { kind: 'chosen' }>,
    model: string,
    request: GenerateRequest,
    { node }: RouteWish,
  ): ApiError {
    switch (kind) {
      case 'nobody':
        return this.#noNode(model, request);
      case 'absent': {
        const message = `Node ${node} is not ready to compute ${model}, or does not hold ${sequenceLength(request)} tokens. GET /cluster/state lists the nodes; leave the name out to let the router choose.`;
        return unavailable(message, 'node_not_ready');
      }
      case 'unnamed':
        return badRequest(
          "This hub runs with --router-mode direct: name the node in the header 'x-quire-node' or in 'nvext.backend_instance_id'. GET /cluster/state lists the nodes.",
          'nvext.backend_instance_id',
          'node_unnamed',
        );
    }
  }

  #noNode(model: string, request: GenerateRequest): ApiError {
    const ready = this.#options.ready(model);
    if (ready.length === 0) {
      const message = `No node is ready to compute ${model}. Open the hub's page in a browser with WebGPU to lend one, then try again.`;
      return unavailable(message, 'no_node_ready', 5);
    }
    const longest = Math.max(...ready.map((socket) => socket.card?.maxModelLen ?? 0));
    return badRequest(
      `This request needs ${sequenceLength(request)} tokens (prompt and output), but no node holds more than ${longest}.`,
      'max_tokens',
      'context_length_exceeded',
    );
  }

  /** The request, when it runs on this node: nodes cannot speak for each other. */
  #of(socket: NodeSocket, request: string): ActiveRequest | null {
    const active = this.#active.get(request);
    return active?.socket === socket ? active : null;
  }

  #watch(active: ActiveRequest): void {
    const { clock, limits } = this.#options;
    active.stopIdleTimer();
    active.stopIdleTimer = clock.after(limits.requestIdleMs, () => {
      const message = `The node sent nothing for ${limits.requestIdleMs / 1000} seconds. Send the request again.`;
      active.queue.fail(unavailable(message, 'node_stalled'));
      this.#cancel(active);
    });
  }

  #finish(active: ActiveRequest): void {
    active.queue.end();
    this.#release(active);
  }

  #fail(active: ActiveRequest, error: ApiError): void {
    active.queue.fail(error);
    this.#release(active);
  }

  /** Nobody reads it any more: the node is told at once. Nothing to do where the request has ended. */
  #cancel(active: ActiveRequest): void {
    const { request, attempt, socket } = active;
    if (!this.#release(active)) return;
    active.queue.end();
    socket.send({ type: 'cancel', request: request.request, attempt });
  }

  #release(active: ActiveRequest): boolean {
    const id = active.request.request;
    if (this.#active.get(id) !== active) return false;
    this.#active.delete(id);
    active.stopIdleTimer();
    this.#options.router.freed(active.socket.id, active.request);
    if (this.#active.size === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
    return true;
  }
}

/** Longest that a sequence of the request can get, tokens. */
function sequenceLength(request: GenerateRequest): number {
  return request.prompt.length + request.sampling.maxTokens;
}

function failureError({ code, message }: Failure): ApiError {
  switch (code) {
    case 'invalid_request':
      return badRequest(message);
    case 'overloaded':
      return unavailable(message, 'overloaded');
    default:
      return new ApiError(500, 'internal_error', `The node failed: ${message}`, { code: 'node_failed' });
  }
}
