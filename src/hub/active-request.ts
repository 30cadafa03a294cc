import type { Migration, Routing } from '../frontend/routing.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { LoraId } from '../protocol/messages.ts';
import { FrameQueue } from './frame-queue.ts';
import type { NodeSocket } from './node-socket.ts';
import type { Place } from './router/choice.ts';
import { type AttemptFrame, TokenLog } from './token-log.ts';

/** What a frame did to a request: told the client something, nothing, was its last one, or broke a rule. */
export type FrameOutcome =
  | { readonly kind: 'taken' | 'ignored' | 'finished' }
  | { readonly kind: 'broken'; readonly reason: string };

/** One try of a request on one rank of a node. */
export interface Attempt {
  /** Counts from 0. */
  readonly number: number;
  readonly socket: NodeSocket;
  /** The node's id, and the rank. */
  readonly place: Place;
  /** What the node was asked: the unfinished choices with the tokens that the log has of them. */
  readonly generate: GenerateRequest;
}

/** A timer that hears of new tokens. */
export interface Watch {
  token(): void;
  stop(): void;
}

/** A request that runs on a node or waits for its next one: its token logs, and the queue that its reader empties. */
export class ActiveRequest {
  readonly queue = new FrameQueue<TokensFrame>();
  /** The current attempt; null while the request waits for a node. */
  current: Attempt | null = null;
  /** Attempts so far. */
  attempts = 0;
  /** Whether any token came. */
  begun = false;
  /** Sockets that were asked and hung or refused: they do not get the request again. */
  readonly avoided = new Set<NodeSocket>();
  /** Called once, when the hub is done with it. */
  released = () => {};
  /** Bounds the time of the current attempt, or of the wait for the next. */
  watch: Watch = { token() {}, stop() {} };
  readonly #logs: ReadonlyMap<number, TokenLog>;
  /** Numerics ids of the nodes whose tokens the client has, oldest first. */
  readonly #numerics = new Set<string>();
  #last: Attempt | null = null;

  constructor(
    readonly request: GenerateRequest,
    readonly model: string,
    vocabSize: number,
    readonly routing: Routing,
    /** Counts the hub's requests. */
    readonly number: number,
    /** The LoRA adapter that it goes through, on whatever node. */
    readonly lora: LoraId | null = null,
  ) {
    const { sampling, prompt, choices, pooling } = request;
    const rules = {
      maxTokens: sampling.maxTokens,
      vocabSize,
      logprobs: sampling.logprobs !== null,
      promptLogprobs: sampling.promptLogprobs === null ? null : prompt.length,
      embedding: pooling?.dimensions ?? null,
    };
    this.#logs = new Map(choices.map(({ choice }) => [choice, new TokenLog(rules)]));
  }

  get finished(): boolean {
    for (const log of this.#logs.values()) if (!log.finished) return false;
    return true;
  }

  /** Numerics id that the answer began with; null before its first token. */
  get numericsId(): string | null {
    return this.#numerics.values().next().value ?? null;
  }

  /** What the next attempt computes. Prompt logprobs that the client has are not asked for again. */
  rest(): GenerateRequest {
    const { sampling } = this.request;
    const unfinished = [...this.#logs].filter(([, log]) => !log.finished);
    const scored = unfinished.every(([, log]) => log.begun);
    return {
      ...this.request,
      choices: unfinished.map(([choice, log]) => ({ choice, generated: [...log.tokens] })),
      sampling: scored ? { ...sampling, promptLogprobs: null } : sampling,
    };
  }

  /** The next attempt, now the current one. Where it is not the first, the client is told. */
  begin({ socket, id, rank }: Place & { readonly socket: NodeSocket }): {
    attempt: Attempt;
    migration: Migration | null;
  } {
    const place = { id, rank };
    const attempt: Attempt = { number: this.attempts, socket, place, generate: this.rest() };
    const from = this.#last;
    this.current = attempt;
    this.#last = attempt;
    this.attempts += 1;
    if (from === null) return { attempt, migration: null };
    const numericsId = socket.card?.numericsId ?? '';
    const migration: Migration = {
      attempt: attempt.number,
      from: from.socket.id,
      to: socket.id,
      tokens: [...this.#logs.values()].reduce((sum, { tokens }) => sum + tokens.length, 0),
      numericsChanged: [...this.#numerics].some((id) => id !== numericsId),
    };
    this.routing.migrated(migration);
    return { attempt, migration };
  }

  /** A frame of the node that the current attempt runs on. */
  take(frame: AttemptFrame): FrameOutcome {
    const log = this.#logs.get(frame.choice);
    if (log === undefined) return { kind: 'broken', reason: `choice ${frame.choice}, which the request does not have` };
    if (this.current === null) return { kind: 'ignored' };
    const appended = log.append(frame, this.current.number);
    if (appended.kind === 'ignored' || appended.kind === 'broken') return appended;
    this.begun = true;
    this.#numerics.add(this.current.socket.card?.numericsId ?? '');
    this.queue.push(appended.frame);
    return { kind: log.finished && this.finished ? 'finished' : 'taken' };
  }

  /** Ends the choices of which only the word of their end was lost with the node: nothing is left to compute of them. */
  endComplete(): void {
    const { request, sampling } = this.request;
    for (const [choice, log] of this.#logs) {
      const end = log.end(sampling);
      if (end !== null) this.queue.push({ request, choice, offset: log.tokens.length, tokens: [], ...end });
    }
  }
}
