import { type Engine, EngineError, type PrefillProgress } from '../engine/api.ts';
import type { GenerateRequest } from '../protocol/generate.ts';
import type { Link } from './link.ts';

/** A health check of a prefill node (rule H1): the same request in prefill form. It computes the prompt, and answers with an end without tokens. */
export class PrefillCanary {
  private readonly running = new Map<string, { readonly attempt: number; readonly engine: Engine }>();

  constructor(private readonly link: Pick<Link, 'sendTokens' | 'sendFailed'>) {}

  start(engine: Engine | null, attempt: number, generate: GenerateRequest): void {
    const { request } = generate;
    if (engine === null) {
      this.link.sendFailed(request, attempt, 'overloaded', 'This node has no such engine now.');
      return;
    }
    this.running.set(request, { attempt, engine });
    try {
      engine.prefill(generate);
    } catch (error) {
      this.failed(request, error instanceof EngineError ? error : new EngineError('internal', String(error)));
    }
  }

  /** Whether the prompt was one of a health check. */
  prefilled(request: string, { done }: PrefillProgress): boolean {
    const running = this.running.get(request);
    if (running === undefined) return false;
    if (!done) return true;
    const { attempt } = running;
    this.cancel(request);
    this.link.sendTokens([{ request, attempt, choice: 0, offset: 0, tokens: [], cachedTokens: 0, finish: 'length' }]);
    return true;
  }

  /** The same of one that the engine gave up. */
  failed(request: string, error: EngineError): boolean {
    const running = this.running.get(request);
    if (running === undefined) return false;
    this.running.delete(request);
    this.link.sendFailed(
      request,
      running.attempt,
      error.code === 'overloaded' ? 'overloaded' : 'engine',
      error.message,
    );
    return true;
  }

  cancel(request: string): void {
    this.running.get(request)?.engine.cancel(request);
    this.running.delete(request);
  }

  /** The engine is gone, or the connection. */
  clear(): void {
    for (const request of [...this.running.keys()]) this.cancel(request);
  }
}
