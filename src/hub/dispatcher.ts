import type { Logger } from 'pino';
import type { Backend } from '../frontend/backend.ts';
import { ApiError, badRequest, unavailable } from '../frontend/errors.ts';
import type { Migration } from '../frontend/routing.ts';
import type { Clock } from '../protocol/clock.ts';
import { CLOSE } from '../protocol/close-codes.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { LoraId } from '../protocol/messages.ts';
import { traceIdOf } from '../protocol/traceparent.ts';
import { ActiveRequest, type Attempt } from './active-request.ts';
import { Candidates, type ReadyNodes } from './candidates.ts';
import type { HubLimits } from './config.ts';
import type { Disaggregation } from './disagg/disaggregation.ts';
import type { NewHappening } from './happenings.ts';
import type { MigrationType } from './metrics.ts';
import type { Failure, FrameSink, NodeSocket } from './node-socket.ts';
import type { Candidate } from './router/choice.ts';
import type { Route, Router } from './router/router.ts';
import { StallWatch } from './stall-watch.ts';
import type { AttemptFrame } from './token-log.ts';

export interface DispatcherOptions {
  readonly nodes: ReadyNodes;
  readonly router: Router;
  readonly disaggregation: Disaggregation;
  readonly clock: Clock;
  readonly limits: HubLimits;
  /** Whether nodes of a model sleep. */
  readonly asleep: (model: string) => boolean;
  /** Told when a request has left a node, for whatever reason. */
  readonly left: (socket: NodeSocket) => void;
  /** Attempts of a request after the first. */
  readonly migrationLimit: number;
  /** Told of each migration, for the metrics. */
  readonly migrated: (model: string, type: MigrationType, migration: Migration) => void;
  /** Told where each attempt goes, for people to see. */
  readonly happened: (happening: NewHappening) => void;
  readonly log: Logger;
}

/** Brings each request to a node and its tokens back: router, token logs, cancelling, and migration when a node is lost. */
export class Dispatcher implements FrameSink {
  readonly #active = new Map<string, ActiveRequest>();
  /** Those of the active that have no node. */
  readonly #waiting = new Set<ActiveRequest>();
  readonly #options: DispatcherOptions;
  readonly #candidates: Candidates;
  #requests = 0;
  #migrations = 0;
  #stopping = false;
  #whenIdle: (() => void)[] = [];

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#candidates = new Candidates(options.nodes, options.asleep);
  }

  /** What the frontend sees as the thing that computes a model; `lora`: with that adapter. */
  backend(model: string, vocabSize: number, lora: LoraId | null = null): Backend {
    return {
      generate: (request, signal, routing) =>
        this.#generate(() => {
          this.#requests += 1;
          const named = lora === null ? request : { ...request, loraName: lora.name };
          return new ActiveRequest(named, model, vocabSize, routing, this.#requests, lora);
        }, signal),
    };
  }

  /** Requests that went on on another node, since the start. */
  get migrations(): number {
    return this.#migrations;
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
    for (const { current } of this.#active.values()) {
      if (current !== null) requests.set(current.socket, (requests.get(current.socket) ?? 0) + 1);
    }
    return requests;
  }

  /** Whether a request runs on the node. */
  runsOn(socket: NodeSocket): boolean {
    for (const { current } of this.#active.values()) if (current?.socket === socket) return true;
    return false;
  }

  /** What runs on the node goes on on others, and fails where none can take it. */
  moveAway(socket: NodeSocket): void {
    const message =
      'The node that computed this request was put to sleep before it was done, and no other could go on with it. Send it again once POST /wake_up woke the nodes.';
    for (const active of this.#active.values()) {
      if (active.current?.socket !== socket) continue;
      this.#drop(active);
      this.#migrate(active, unavailable(message, 'asleep', 5), 'now');
    }
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
      const place = active.current?.place;
      const outcome = active.take(frame);
      if (outcome.kind === 'broken') {
        const message = `request ${frame.request}, choice ${frame.choice}: ${outcome.reason}`;
        // Takes this request, and all others, from the node through `lost`.
        socket.refuse({ close: CLOSE.protocol, code: 'protocol', message });
        return;
      }
      if (place !== undefined) this.#options.router.tokens(place, frame);
      if (outcome.kind === 'finished') this.#finish(active);
      else if (outcome.kind === 'taken') active.watch.token();
    }
  }

  failed(socket: NodeSocket, failure: Failure): void {
    const active = this.#of(socket, failure.request);
    if (active === null || failure.attempt !== active.current?.number) return;
    const traceId = traceIdOf(active.request.traceparent);
    const fields = { node: socket.id, request: failure.request, traceId, code: failure.code };
    this.#options.log.warn(fields, failure.message);
    const error = failureError(failure);
    active.avoided.add(socket);
    // What can never run here can run nowhere; another failure may be this node's own.
    if (failure.code === 'invalid_request') this.#fail(active, error);
    else this.#migrate(active, error, 'now');
  }

  lost(socket: NodeSocket, reason: string): void {
    this.#options.router.forget(socket.id);
    this.#options.disaggregation.lost(socket);
    for (const active of this.#active.values()) {
      if (active.current?.socket !== socket) continue;
      const message = `The node that computed this request is gone (${reason}). Send the request again.`;
      this.#migrate(active, unavailable(message, 'node_lost'), 'wait');
    }
  }

  /** A node came, went or changed its stage: requests that wait for one may go on. */
  nodesChanged(): void {
    for (const active of this.#waiting) this.#place(active, 'wait');
  }

  /** The frames of a request, which begins when the first one is asked for. */
  #generate(create: () => ActiveRequest, signal: AbortSignal): AsyncIterable<TokensFrame> {
    let active: ActiveRequest | null = null;
    const begin = (): ActiveRequest => {
      const begun = create();
      this.#start(begun);
      const abort = () => this.#cancel(begun);
      signal.addEventListener('abort', abort, { once: true });
      begun.released = () => signal.removeEventListener('abort', abort);
      return begun;
    };
    const done = { done: true, value: undefined } as const;
    // Written out, since a generator around the queue would cost more than the rest of what the hub does with a token.
    return {
      [Symbol.asyncIterator]: () => ({
        next: () => {
          if (active === null && signal.aborted) return Promise.resolve(done);
          try {
            active ??= begin();
          } catch (error) {
            return Promise.reject(error);
          }
          return active.queue.next();
        },
        return: async () => {
          if (active !== null) this.#cancel(active);
          return done;
        },
      }),
    };
  }

  #start(active: ActiveRequest): void {
    const { limits } = this.#options;
    const { request } = active.request;
    if (this.#stopping)
      throw unavailable('The hub is shutting down. Send the request to another hub, or later.', 'hub_stopping');
    if (this.#active.size >= limits.maxInflight) {
      throw unavailable(
        `The hub has ${limits.maxInflight} requests in work, which is its limit. Try again soon.`,
        'overloaded',
      );
    }
    this.#checkEmbeds(active.request);
    if (this.#active.has(request)) throw new Error(`request id ${request} is in use`);
    this.#active.set(request, active);
    const kind = this.#place(active, 'now');
    if (kind === 'chosen') return;
    this.#active.delete(request);
    throw this.#candidates.refusal(kind, active);
  }

  /** Embeddings are kept until their request has ended, for its next attempt. Throws `ApiError` 503 when all together would be too many. */
  #checkEmbeds({ embeds }: GenerateRequest): void {
    if (embeds === undefined) return;
    let held = embeds.data.length;
    for (const { request } of this.#active.values()) held += request.embeds?.data.length ?? 0;
    if (held <= this.#options.limits.maxEmbedsBytes) return;
    throw unavailable('The hub holds as many embeddings of other requests as it may. Try again soon.', 'overloaded');
  }

  /** Begins the next attempt, or says why no node can take it now. */
  #place(active: ActiveRequest, when: 'now' | 'wait'): Route<Candidate>['kind'] {
    const { router, disaggregation, migrated, happened, log } = this.#options;
    const { model, routing } = active;
    // A named node is where a request begins; when it is lost, any other is better than none.
    const wish = active.attempts === 0 ? routing : { node: null, rank: null, knobs: routing.knobs, moved: true };
    const route = router.choose(active.rest(), this.#candidates.best(active, when), wish);
    if (route.kind !== 'chosen') return route.kind;
    const { socket, rank } = route.candidate;
    this.#waiting.delete(active);
    active.watch.stop();
    const { attempt, migration } = active.begin(route.candidate);
    const names = { request: active.request.request, traceId: traceIdOf(active.request.traceparent) };
    log.debug({ ...names, node: socket.id, rank, attempt: attempt.number }, 'a request goes to a node');
    if (migration !== null) {
      this.#migrations += 1;
      migrated(model, active.begun ? 'ongoing_request' : 'new_request', migration);
      log.info({ ...names, ...migration }, 'a request goes on on another node');
      const { from, to, tokens, numericsChanged } = migration;
      happened({
        kind: 'migrated',
        ...{ request: active.number, model, attempt: attempt.number, from, to },
        ...{ completionTokens: tokens, numericsChanged },
      });
    }
    const prefill = disaggregation.begin(active, attempt, route);
    const { overlapBlocks, promptBlocks } = route;
    routing.routed({ node: socket.id, rank, overlapBlocks, promptBlocks });
    happened({
      kind: 'routed',
      ...{ request: active.number, model, attempt: attempt.number, node: socket.id, rank },
      ...{ prefillNode: prefill?.node ?? null, overlapBlocks, promptBlocks },
    });
    this.#watch(active, attempt);
    const { number, generate } = attempt;
    socket.send({ type: 'generate', attempt: number, rank, generate, ...(prefill === null ? {} : { prefill }) });
    return 'chosen';
  }

  /** Takes the request from its node and goes on elsewhere, now or when a node is there; where it may not, it fails with `error`. */
  #migrate(active: ActiveRequest, error: ApiError, when: 'now' | 'wait'): void {
    const { clock, limits, migrationLimit } = this.#options;
    this.#leave(active);
    active.endComplete();
    if (active.finished) {
      this.#finish(active);
      return;
    }
    if (active.attempts > migrationLimit) {
      this.#fail(active, error);
      return;
    }
    if (this.#place(active, when) === 'chosen') return;
    if (when === 'now') {
      this.#fail(active, error);
      return;
    }
    this.#waiting.add(active);
    active.watch = { token() {}, stop: clock.after(limits.migrationWaitMs, () => this.#fail(active, error)) };
  }

  #watch(active: ActiveRequest, { socket, place }: Attempt): void {
    const { clock, disaggregation, limits } = this.#options;
    const goOn = () => {
      const message = `The node sent nothing for ${limits.requestIdleMs / 1000} seconds. Send the request again.`;
      active.avoided.add(socket);
      this.#drop(active);
      this.#migrate(active, unavailable(message, 'node_stalled'), 'now');
    };
    active.watch = new StallWatch({
      clock,
      limits,
      // Where another node computes its prompt, that one's steps tell that it goes on.
      steps: () => socket.steps(place.rank) + disaggregation.prefillSteps(active.request.request),
      // A node that hangs may wake up: where the request cannot go elsewhere, that is the best hope.
      stalled: () => {
        if (active.attempts <= this.#options.migrationLimit && this.#candidates.elsewhere(active)) goOn();
      },
      idle: goOn,
    });
  }

  /** The request, when it runs on this node: nodes cannot speak for each other. */
  #of(socket: NodeSocket, request: string): ActiveRequest | null {
    const active = this.#active.get(request);
    return active?.current?.socket === socket ? active : null;
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
    if (this.#active.get(active.request.request) !== active) return;
    this.#drop(active);
    this.#finish(active);
  }

  /** Takes the request from a node that may still run it. */
  #drop(active: ActiveRequest): void {
    const { current, request } = active;
    // First, since sending may close the node's socket, and with it all that runs there.
    this.#leave(active);
    current?.socket.send({ type: 'cancel', request: request.request, attempt: current.number });
  }

  #release(active: ActiveRequest): void {
    this.#leave(active);
    this.#waiting.delete(active);
    this.#active.delete(active.request.request);
    active.released();
    if (this.#active.size === 0) for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** The attempt is over: the node has its load off, and nothing of it counts any more. */
  #leave(active: ActiveRequest): void {
    active.watch.stop();
    if (active.current === null) return;
    this.#options.disaggregation.leave(active.request.request);
    const { socket, place, generate } = active.current;
    this.#options.router.freed(place, generate);
    active.current = null;
    this.#options.left(socket);
  }
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
