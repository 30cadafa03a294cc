import { type Engine, EngineError, type EngineListener } from '../engine/api.ts';
import type { Backend } from '../frontend/backend.ts';
import { ApiError, badRequest, unavailable } from '../frontend/errors.ts';
import type { RouteWish } from '../frontend/routing.ts';
import type { GenerateRequest, TokensFrame } from '../protocol/generate.ts';

/** One request that runs: frames that nobody has read yet, and who waits for them. */
class Running {
  readonly frames: TokensFrame[] = [];
  openChoices: number;
  error: ApiError | null = null;
  wake: () => void = () => {};

  constructor(choices: number) {
    this.openChoices = choices;
  }
}

/** The engine of this page as what computes, for the API without a hub. Frames wait in memory, at most a request's own tokens. */
export class LocalBackend implements Backend {
  private readonly running = new Map<string, Running>();
  private engine: Engine | null = null;

  /** What the engine must tell; given to it when it is made. */
  readonly listener: EngineListener = {
    tokens: (frames) => {
      for (const frame of frames) {
        const run = this.running.get(frame.request);
        if (!run) continue;
        run.frames.push(frame);
        if (frame.finish !== undefined) run.openChoices--;
        run.wake();
      }
    },
    kvEvents: () => {},
    prefilled: () => {},
    failed: (request, error) => {
      const run = this.running.get(request);
      if (run) fail(run, apiError(error));
    },
    lost: (error) => {
      this.engine = null;
      for (const run of this.running.values()) fail(run, apiError(error));
    },
  };

  /** From now on requests run on `engine`; null while there is none. */
  use(engine: Engine | null): void {
    this.engine = engine;
  }

  async *generate(
    request: GenerateRequest,
    signal: AbortSignal,
    routing: RouteWish,
  ): AsyncGenerator<TokensFrame, void, undefined> {
    const engine = this.engine;
    if (routing.node !== null || routing.rank !== null)
      throw badRequest('This page computes alone: there is no node to name. Leave the name of the node out.');
    if (!engine)
      throw unavailable('The engine of this page is not ready. Wait until the model is loaded.', 'no_engine');
    const id = request.request;
    const run = new Running(request.choices.length);
    const abort = () => run.wake();
    this.running.set(id, run);
    try {
      engine.add(request);
      signal.addEventListener('abort', abort);
      while (!signal.aborted) {
        const frame = run.frames.shift();
        if (frame) yield frame;
        else if (run.error) throw run.error;
        else if (run.openChoices === 0) return;
        else {
          await new Promise<void>((resolve) => {
            run.wake = resolve;
          });
        }
      }
    } catch (error) {
      throw apiError(error);
    } finally {
      signal.removeEventListener('abort', abort);
      this.running.delete(id);
      engine.cancel(id);
    }
  }
}

function fail(run: Running, error: ApiError): void {
  run.error = error;
  run.wake();
}

function apiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (!(error instanceof EngineError)) return new ApiError(500, 'internal_error', String(error), { cause: error });
  if (error.code === 'invalid_request') return badRequest(error.message);
  return unavailable(error.message, error.code);
}
