import { type Engine, EngineError } from '../engine/api.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';
import type { ErrorCode, HubMessage } from '../protocol/messages.ts';
import { batches } from './batches.ts';
import type { Link } from './link.ts';

interface Attempt {
  readonly attempt: number;
  /** Choices that have not finished. */
  openChoices: number;
}

/** The requests that run on a node's engine, each under the attempt that the hub gave it (rules G1 to G4). */
export class Attempts {
  private readonly running = new Map<string, Attempt>();
  private engine: Engine | null = null;

  constructor(
    private readonly link: Pick<Link, 'sendTokens' | 'sendFailed'>,
    /** Called after a request came or went. */
    private readonly changed: () => void,
  ) {}

  get size(): number {
    return this.running.size;
  }

  /** From now on requests run on `engine`; null: on none, and those that ran there are forgotten without a word. */
  use(engine: Engine | null): void {
    this.engine = engine;
    if (engine === null) this.running.clear();
  }

  /** `closed` is why the node takes nothing new; null while it does. */
  generate(attempt: number, request: GenerateRequest, closed: string | null): void {
    const id = request.request;
    if (!this.engine || closed !== null) {
      this.link.sendFailed(id, attempt, 'overloaded', closed ?? 'This node has no engine now.');
      return;
    }
    if (this.running.has(id)) this.drop(id);
    this.running.set(id, { attempt, openChoices: request.choices.length });
    try {
      this.engine.add(request);
    } catch (error) {
      this.forget(id);
      this.link.sendFailed(id, attempt, messageCode(error), error instanceof Error ? error.message : String(error));
      return;
    }
    this.changed();
  }

  cancel({ request, attempt }: Extract<HubMessage, { type: 'cancel' }>): void {
    if (this.running.get(request)?.attempt === attempt) this.drop(request);
  }

  /** New tokens of the engine. */
  tokens(frames: readonly TokensFrame[]): void {
    const tagged = [];
    for (const frame of frames) {
      const running = this.running.get(frame.request);
      if (running) tagged.push({ ...frame, attempt: running.attempt });
    }
    for (const part of batches(tagged)) this.link.sendTokens(part);
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
    this.engine?.cancel(request);
    this.forget(request);
  }

  private forget(request: string): void {
    this.running.delete(request);
    this.changed();
  }
}

function messageCode(error: unknown): ErrorCode {
  if (!(error instanceof EngineError)) return 'engine';
  return error.code === 'invalid_request' || error.code === 'overloaded' ? error.code : 'engine';
}
