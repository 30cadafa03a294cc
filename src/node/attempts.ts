import { type Engine, EngineError } from '../engine/api.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { ErrorCode, HubMessage } from '../protocol/messages.ts';
import { traceIdOf } from '../protocol/traceparent.ts';
import { frameBatches } from './batches.ts';
import type { Link } from './link.ts';
import type { Ranks } from './ranks.ts';
import type { Transfers } from './transfer/transfers.ts';

type Generate = Omit<Extract<HubMessage, { type: 'generate' }>, 'type'>;

interface Attempt {
  readonly attempt: number;
  readonly engine: Engine;
  readonly traceparent: string | undefined;
  /** Choices that have not finished. */
  openChoices: number;
}

/** The requests that run on a node's engines, each under the attempt that the hub gave it (rules G1 to G4). */
export class Attempts {
  private readonly running = new Map<string, Attempt>();
  private engines: Pick<Ranks, 'at'> | null = null;
  private transfers: Pick<Transfers, 'fetch' | 'stop'> | null = null;

  constructor(
    private readonly link: Pick<Link, 'sendTokens' | 'sendFailed'>,
    /** Called after a request came or went. */
    private readonly changed: () => void,
  ) {}

  get size(): number {
    return this.running.size;
  }

  /** From now on requests run on `engines`; null: on none, and those that ran there are forgotten without a word. */
  use(engines: Pick<Ranks, 'at'> | null, transfers: Pick<Transfers, 'fetch' | 'stop'> | null = null): void {
    this.engines = engines;
    this.transfers = transfers;
    if (engines === null) this.running.clear();
  }

  /** `closed` is why the node takes nothing new; null while it does. With `prefill` the blocks of the prompt come first. */
  generate({ attempt, rank, generate: request, prefill }: Generate, closed: string | null): void {
    const id = request.request;
    const engine = this.engines?.at(rank);
    if (!engine || closed !== null) {
      this.link.sendFailed(id, attempt, 'overloaded', closed ?? `This node has no engine of rank ${rank} now.`);
      return;
    }
    if (this.running.has(id)) this.drop(id);
    const { traceparent } = request;
    const running = { attempt, engine, traceparent, openChoices: request.choices.length };
    this.running.set(id, running);
    logTraced('a request begins', id, running);
    if (prefill && this.transfers) this.transfers.fetch(engine, request, prefill, () => this.add(running, request));
    else this.add(running, request);
  }

  cancel({ request, attempt }: Extract<HubMessage, { type: 'cancel' }>): void {
    if (this.running.get(request)?.attempt === attempt) this.drop(request);
  }

  private add({ attempt, engine }: Attempt, request: GenerateRequest): void {
    const id = request.request;
    try {
      engine.add(request);
    } catch (error) {
      this.forget(id);
      this.link.sendFailed(id, attempt, messageCode(error), error instanceof Error ? error.message : String(error));
      return;
    }
    this.changed();
  }

  /** New tokens of the engine. */
  tokens(frames: readonly TokensFrame[]): void {
    const tagged = [];
    for (const frame of frames) {
      const running = this.running.get(frame.request);
      if (running) tagged.push({ ...frame, attempt: running.attempt });
    }
    for (const part of frameBatches(tagged)) this.link.sendTokens(part);
    for (const frame of tagged) {
      const running = this.running.get(frame.request);
      if (frame.finish === undefined || !running) continue;
      running.openChoices--;
      if (running.openChoices === 0) this.forget(frame.request);
    }
  }

  /** The engine gave one request up. */
  failed(request: string, error: EngineError): void {
    const running = this.running.get(request);
    if (!running) return;
    this.forget(request);
    this.link.sendFailed(request, running.attempt, messageCode(error), error.message);
  }

  dropAll(): void {
    for (const request of [...this.running.keys()]) this.drop(request);
  }

  private drop(request: string): void {
    this.transfers?.stop(request);
    this.running.get(request)?.engine.cancel(request);
    this.forget(request);
  }

  private forget(request: string): void {
    const running = this.running.get(request);
    if (running) logTraced('a request ends', request, running);
    this.running.delete(request);
    this.changed();
  }
}

/** Requests of a client's trace leave lines in the console, by which it is known what was computed here. */
function logTraced(msg: string, request: string, { attempt, traceparent }: Attempt): void {
  const traceId = traceIdOf(traceparent);
  if (traceId !== undefined) console.debug(JSON.stringify({ msg, request, attempt, traceId }));
}

function messageCode(error: unknown): ErrorCode {
  if (!(error instanceof EngineError)) return 'engine';
  return error.code === 'invalid_request' || error.code === 'overloaded' ? error.code : 'engine';
}
